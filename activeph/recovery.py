"""Labels that somebody removed after their step was finished are calculated again before anything goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from activeph.errors import Paused
from activeph.labelling import obtain
from activeph.loop import Loop, draw
from activeph.records import Configuration, Failure
from activeph.state import PREPARED, Pick, State, Step
from activeph.store.ledger import Ledger, label_key


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


def _lost(picks: Sequence[Pick], known: Collection[str]) -> bool:
    return any(pick.key not in known for pick in picks)
