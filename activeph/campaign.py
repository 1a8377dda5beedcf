"""The loop: propose, score, select, label, train, evaluate, for all arms and repeats at once.

Every step is idempotent and becomes true with one journal line. Resuming is running again: the journal is folded,
finished steps are skipped and the first unfinished one is redone from its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from activeph.config import Campaign
from activeph.errors import InputError
from activeph.labelling import Losses, obtain
from activeph.loop import Loop, counting, draw, picks_at, step_pools
from activeph.low_fidelity import supplement
from activeph.prepared import prepared_picks
from activeph.proposal import (
    Pools,
    Request,
    choose_at_random,
    select,
    test_pools,
)
from activeph.records import Configuration
from activeph.recovery import restore_files, restore_labels, restore_members
from activeph.replacement import replace_lost, request, taken
from activeph.report.metrics import goals_met, metrics_record
from activeph.round_files import predict_test_set, write_preparation, write_selection, write_truth
from activeph.rundir import write_json
from activeph.seeds import derive_seed
from activeph.state import PREPARED, State, Step, Trajectory, selection_event
from activeph.training import train


def run_rounds(loop: Loop) -> None:
    """Carry a campaign from wherever it stands to its end."""
    choose_test_set(loop)
    take_in_preparation(loop)
    restore_labels(loop)
    restore_members(loop)
    restore_files(loop)
    number = 0
    while steps := open_steps(loop.campaign, state := loop.state, number):
        if any(step not in state.evaluated for step in steps):
            propose(loop, steps)
            label(loop, steps)
            supplement(loop, steps)
            train(loop, steps)
            evaluate(loop, steps)
        number += 1


def is_complete(campaign: Campaign, state: State) -> bool:
    """Return whether every step that the budget allows has been evaluated."""
    number = 0
    while steps := open_steps(campaign, state, number):
        if any(step not in state.evaluated for step in steps):
            return False
        number += 1
    return True


def trajectories(campaign: Campaign) -> list[Trajectory]:
    """Return every repeat of every arm, in the order of the campaign file."""
    return [Trajectory(arm, repeat) for repeat in range(campaign.budget.repeats) for arm in campaign.arms]


def open_steps(campaign: Campaign, state: State, number: int) -> list[Step]:
    """Return the steps of round ``number``: those of all trajectories that have budget left and a goal not yet met."""
    steps = []
    for trajectory in trajectories(campaign):
        before = Step(*trajectory, number - 1)
        spent = len(state.spent(trajectory, before=number))
        exhausted = number > 0 and not state.picks.get(before)
        if spent < campaign.budget.labels and not exhausted and not _goal_met(campaign, state, before):
            steps.append(Step(*trajectory, number))
    return steps


def choose_test_set(loop: Loop) -> None:
    """Draw the frozen test set; it is labelled together with the first round.

    Raises InputError where it takes all candidates of an arm, which finite pools allow.
    """
    if loop.state.test is not None:
        return
    pools = test_pools(loop.campaign, loop.systems, 0)
    indices = choose_at_random(derive_seed(loop.campaign.seed, "test"), pools, loop.campaign.test.n, ())
    picks = picks_at(loop, pools, indices, None)
    names = {(pick.system, pick.id) for pick in picks}
    for trajectory in trajectories(loop.campaign):
        offered = step_pools(loop, Step(*trajectory, 0))
        if sum(offered.lengths) <= len(picks) and not len(offered.free(names)):
            raise InputError(
                f"test.n must leave candidates to arm {trajectory.arm} but got {len(picks)}, all that its sampler "
                f"{offered.sampler.kind} offers; lower test.n"
            )
    loop.journal.append({"event": "test", "picks": [asdict(pick) for pick in picks]})


def take_in_preparation(loop: Loop) -> None:
    """Note the labels of the preparation that all trajectories train on alike, where systems have such.

    None of them is in the test set. They are judged with the first labels and cost no budget of labels.
    """
    state = loop.state
    if state.prepared is None and any(section.renormalise.train for section in loop.campaign.systems):
        test = {pick.key for pick in state.test or ()}
        picks = [pick for pick in prepared_picks(loop.campaign, loop.directory) if pick.key not in test]
        loop.journal.append({"event": "prepare", "picks": [asdict(pick) for pick in picks]})


def propose(loop: Loop, steps: Sequence[Step]) -> None:
    """Select the batch of every step that has none yet."""
    state = loop.state
    missing = [step for step in steps if step not in state.picks]
    first = [step for step in missing if step.round == 0]
    for step in first:
        pools = step_pools(loop, step)
        seed = derive_seed(loop.campaign.seed, "initial", step.repeat)
        n = min(loop.campaign.budget.initial, loop.campaign.budget.labels)
        _record_selection(loop, step, pools, choose_at_random(seed, pools, n, taken(state, step)), None)
    later = [_request(loop, state, step) for step in missing if step.round > 0]
    loop.labels.save()
    chosen = select(loop.campaign, loop.systems, later, loop.workers, loop.progress)
    for step, (indices, uncertainties) in chosen.items():
        _record_selection(loop, step, step_pools(loop, step), indices, uncertainties)


def label(loop: Loop, steps: Sequence[Step]) -> None:
    """Label the batches of all steps in one submission, so that a queue stays full; the test set goes first.

    What gives no label is replaced, and the others are labelled, until every batch is full or its pool is empty.
    """
    state = loop.state
    missing = [step for step in steps if step not in state.labelled]
    if not missing:
        return
    is_first = not state.labelled
    places: list[Step | None] = [*([None] if is_first else []), *missing]
    losses = Losses()
    title, known = f"round {steps[0].round}: labelling", frozenset[str]()
    while True:
        wanted = _wanted(loop, places, known)
        with loop.progress.stage(title, len(wanted)) as stage:
            labeler = loop.campaign.label
            obtain(labeler, wanted, loop.ledger, loop.workers, counting(loop.campaign, labeler, stage), losses)
        if not replace_lost(loop, [*places, PREPARED] if is_first else places, losses):
            break
        title, known = f"round {steps[0].round}: labelling in place of what failed", known | set(wanted)
    state = loop.state
    if is_first:
        write_truth(loop, state)
        write_preparation(loop, state)
    for step in missing:
        write_selection(loop, step, state)
        loop.journal.append({"event": "label", **step._asdict()})


def evaluate(loop: Loop, steps: Sequence[Step]) -> None:
    """Measure the error of every step's ensemble on the test set."""
    state = loop.state
    missing = [step for step in steps if step not in state.evaluated]
    truth, predictions = predict_test_set(loop, missing, f"round {steps[0].round}: testing")
    for step, prediction in zip(missing, predictions, strict=True):
        trajectory = Trajectory(step.arm, step.repeat)
        n_spent = len(state.spent(trajectory, before=step.round + 1))
        n_prepared = len(state.training(trajectory, before=step.round + 1)) - n_spent
        metrics = {
            **step._asdict(),
            "labels": n_spent,
            **({"prepared": n_prepared} if n_prepared else {}),
            "failures": len(state.replaced(trajectory, before=step.round + 1)),
            "targets": metrics_record(truth.targets, prediction.mean, prediction.std, truth.target_names),
        }
        write_json(loop.directory.metrics(*step), metrics)
        loop.journal.append({"event": "evaluate", **step._asdict(), "metrics": metrics})


def _goal_met(campaign: Campaign, state: State, step: Step) -> bool:
    return step in state.evaluated and goals_met(campaign.budget.target_error, state.evaluated[step]["targets"])


def _wanted(loop: Loop, places: Sequence[Step | None], known: frozenset[str]) -> dict[str, Configuration]:
    """Return the configurations that steps (None: the test set) want labels of, by ledger key, without known ones."""
    state = loop.state
    wanted: dict[str, Configuration] = {}
    for step in places:
        picks = (state.test or ()) if step is None else state.picks[step]
        wanted |= draw(loop, step, [pick for pick in picks if pick.key not in known])
    return wanted


def _request(loop: Loop, state: State, step: Step) -> Request:
    trajectory = Trajectory(step.arm, step.repeat)
    n_left = loop.campaign.budget.labels - len(state.spent(trajectory, before=step.round))
    known = state.training(trajectory, before=step.round)
    return request(loop, state, step, min(loop.campaign.budget.batch, n_left), known)


def _record_selection(
    loop: Loop, step: Step, pools: Pools, indices: Sequence[int], uncertainties: Sequence[float] | None
) -> None:
    picks = picks_at(loop, pools, indices, uncertainties)
    loop.journal.append(selection_event(step, picks, sum(pools.lengths), pools.refused))
