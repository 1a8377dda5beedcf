"""What somebody removed after its step was finished, labels, members and files, is made again before all else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path

from activeph.errors import Paused
from activeph.labelling import obtain
from activeph.loop import Loop, draw
from activeph.low_fidelity import supplement
from activeph.proposal import run_all
from activeph.records import Configuration, Failure
from activeph.round_files import predict_test_set, write_preparation, write_selection, write_truth
from activeph.rundir import RunDirectory, write_json
from activeph.state import PREPARED, Pick, State, Step, Trajectory
from activeph.store.ledger import Ledger, label_key
from activeph.tasks import fit_member
from activeph.training import FitTasks


def missing_records(state: State, ledger: Ledger) -> list[Step | None]:
    """Return the labelled steps of which the ledger has lost a label (see :class:`State`)."""
    # One listing: asking for each record would take seconds where there are many.
    known = frozenset(key for key, found in ledger.states() if found == "label")
    steps = [None, PREPARED, *sorted(state.labelled)] if state.labelled else []
    return [step for step in steps if _lost(state.counting(step), known)]


def restore_labels(loop: Loop) -> None:
    """Calculate again what was removed from the ledger after its step was finished, so that nothing goes on without.

    Raises Paused where the configuration drawn again is not the one that was labelled, and where its calculation now
    fails: models were trained on the label, so that no other candidate may take its place.
    """
    state = loop.state
    wanted: dict[str, Configuration] = {}
    for step in missing_records(state, loop.ledger):
        wanted |= draw(loop, step, [pick for pick in state.counting(step) if loop.ledger.state(pick.key) != "label"])
    for key, configuration in wanted.items():
        if label_key(configuration, loop.campaign.label.fingerprint) != key:
            raise Paused(
                f"label {key} must be calculated again but got another configuration from its pool; "
                f"restore {loop.ledger.directory(key)} from a copy."
            )
    if wanted:
        with loop.progress.stage("labelling again what is missing", len(wanted)) as stage:
            found = obtain(loop.campaign.label, wanted, loop.ledger, loop.workers, lambda _: stage.advance())
        for key, outcome in found.items():
            if isinstance(outcome, Failure):
                reason = outcome.message.partition("\n")[0]
                raise Paused(
                    f"label {key}, which was removed after it had been used, must be there but got a failure when "
                    f"calculated again ({reason}); restore {loop.ledger.directory(key)} from a copy, or remove it for "
                    "another try."
                )


def lost_members(state: State, directory: RunDirectory, members: int) -> list[tuple[Step, int]]:
    """Return the members of each repeat's last trained round that are missing or empty, and what they were warm-started
    from as far as that is missing too; in the order of their training. Members of earlier rounds may be removed, unless
    what they said of the test set is missing.
    """
    lost: list[tuple[Step, int]] = []
    for trajectory in sorted({Trajectory(step.arm, step.repeat) for step in state.trained}):
        wanted = list(range(members))
        for step in reversed([step for step in state.steps(trajectory) if step in state.trained]):
            if step in state.evaluated and not _holds_something(directory.predictions(*step)):
                wanted = list(range(members))
            wanted = [member for member in wanted if not _holds_something(directory.member(*step, member))]
            lost += [(step, member) for member in wanted]
    return sorted(lost, key=lambda one: (one[0].round, one))


def restore_members(loop: Loop) -> None:
    """Train again what was removed of ensembles that are still needed: from the same labels, seeds and predecessors."""
    state, members = loop.state, loop.campaign.model.members
    for number, group in groupby(lost_members(state, loop.directory, members), key=lambda one: one[0].round):
        lost = list(group)
        steps = list(dict.fromkeys(step for step, _ in lost))
        supplement(loop, steps)  # what a cheap code said may have been removed with them
        tasks = FitTasks(loop, state, steps)
        again = [tasks[steps.index(step) * members + member] for step, member in lost]
        run_all(loop.workers, fit_member, again, f"round {number}: training again what is missing", loop.progress)


def lost_files(state: State, directory: RunDirectory) -> list[Path]:
    """Return the files that finished steps wrote for the report and that are missing or empty."""
    files = [directory.selection(*step) for step in sorted(state.labelled)]
    files += [place(*step) for step in sorted(state.evaluated) for place in (directory.metrics, directory.predictions)]
    files += [directory.truth] if state.labelled else []
    files += [directory.preparation] if state.labelled and state.prepared else []
    return [path for path in files if not _holds_something(path)]


def restore_files(loop: Loop) -> None:
    """Write again what was removed of the files of finished steps; members are there (:func:`restore_members`)."""
    state, directory = loop.state, loop.directory
    lost = set(lost_files(state, directory))
    if directory.truth in lost:
        write_truth(loop, state)
    if directory.preparation in lost:
        write_preparation(loop, state)
    for step in sorted(state.labelled):
        if directory.selection(*step) in lost:
            write_selection(loop, step, state)
    for step, metrics in sorted(state.evaluated.items()):
        if directory.metrics(*step) in lost:
            write_json(directory.metrics(*step), metrics)
    again = [step for step in sorted(state.evaluated) if directory.predictions(*step) in lost]
    if again:
        supplement(loop, again)
        predict_test_set(loop, again, "testing again what is missing")


def _holds_something(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _lost(picks: Sequence[Pick], known: Collection[str]) -> bool:
    return any(pick.key not in known for pick in picks)
