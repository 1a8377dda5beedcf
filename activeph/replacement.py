"""What gives no sound label is set aside with its reason; the next candidate of the same selection takes its place.

A budget counts labels: what is set aside costs none of them (core-hours it does cost). Who takes whose place is
written into the journal before it is calculated, so that a resumed campaign replaces alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from activeph.judgement import doubted
from activeph.labelling import Losses
from activeph.loop import Loop, dataset_of, member_paths, picks_at, step_pools
from activeph.proposal import Request, choose_at_random, label_seconds, select, test_pools
from activeph.records import Failure
from activeph.seeds import derive_seed
from activeph.state import PREPARED, Pick, SetAside, State, Step, Trajectory, replacement_event


def replace_lost(loop: Loop, steps: Sequence[Step | None], losses: Losses) -> bool:
    """Put other candidates in the place of those picks of ``steps`` that gave no sound label (see :class:`State`).

    Returns whether anything was replaced. A pool that has no more candidates leaves a batch smaller. The test
    set is made whole before anything else: batches depend on it, and it must not depend on when a campaign was stopped.
    """
    if None in steps and _replace(loop, None, losses):
        return True
    replaced = [_replace(loop, step, losses) for step in steps if step is not None]
    return any(replaced)


def _replace(loop: Loop, step: Step | None, losses: Losses) -> bool:
    state = loop.state
    doubts = doubted(loop, step)
    for each in doubts:
        losses.doubt(each.pick.key, f"{each.reason}: {each.message}")
    out = [*_failed(loop, state, step), *doubts]
    if out:
        loop.journal.append(replacement_event(step, out, _next(loop, state, step, out)))
    return bool(out)


def taken(state: State, step: Step) -> frozenset[tuple[str, str]]:
    """Return what a step must not choose again: the test set, and all that its trajectory has ever chosen."""
    steps = [each for each in state.steps(Trajectory(step.arm, step.repeat)) if each.round <= step.round]
    return _names(state, [None, *steps])


def request(loop: Loop, state: State, step: Step, n: int, labelled: Sequence[Pick]) -> Request:
    """Return the wish of a step for ``n`` candidates beside those that are labelled already."""
    states = member_paths(loop, Step(step.arm, step.repeat, step.round - 1))
    selector = loop.campaign.arms[step.arm].select
    blocks = dataset_of(loop, labelled).blocks if selector.needs_model else ()
    wave = _wave(state, step) if step in state.picks else 0
    needs_facts = getattr(selector, "needs_facts", False)
    seconds = label_seconds(labelled, loop.labels, loop.systems) if needs_facts else {}
    return Request(step, n, taken(state, step), states, blocks, wave, seconds)


def _failed(loop: Loop, state: State, step: Step | None) -> list[SetAside]:
    picks = state.counting(step)
    outcomes = [(pick, loop.labels.get(pick.key)) for pick in picks]
    return [SetAside(pick, one.kind, one.message) for pick, one in outcomes if isinstance(one, Failure)]


def _next(loop: Loop, state: State, step: Step | None, out: Sequence[SetAside]) -> list[Pick]:
    """Return the candidates that take the place of others, chosen as those were."""
    campaign, wave, n = loop.campaign, _wave(state, step), len(out)
    if step == PREPARED:  # nobody chose them, so nothing takes their place
        return []
    if step is None:
        pools = test_pools(campaign, loop.systems, wave)
        # a finite source may have given some of its structures to an arm already
        indices = choose_at_random(
            derive_seed(campaign.seed, "test", wave), pools, n, _names(state, [None, *state.picks])
        )
        return picks_at(loop, pools, indices, None, wave)
    if step.round == 0:
        seed = derive_seed(campaign.seed, "initial", step.repeat, wave)
        pools = step_pools(loop, step)
        return picks_at(loop, pools, choose_at_random(seed, pools, n, taken(state, step)), None)
    gone = {each.pick.key for each in out}
    known = state.training(Trajectory(step.arm, step.repeat), before=step.round + 1)
    wish = request(loop, state, step, n, [pick for pick in known if pick.key not in gone])
    indices, uncertainties = select(campaign, loop.systems, [wish], loop.workers, loop.progress)[step]
    return picks_at(loop, step_pools(loop, step), indices, uncertainties)


def _wave(state: State, step: Step | None) -> int:
    """Return the number of the replacement that comes next, from 1."""
    return state.waves.get(step, 0) + 1


def _names(state: State, steps: Sequence[Step | None]) -> frozenset[tuple[str, str]]:
    return frozenset((pick.system, pick.id) for step in steps for pick in state.chosen(step))
