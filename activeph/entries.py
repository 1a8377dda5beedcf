"""Every label of a campaign with its place in it: the dataset that a campaign is run for."""

from __future__ import annotations

from collections.abc import Iterable

from activeph.records import Entry, Label
from activeph.state import Pick, State
from activeph.store.ledger import Ledger

VALIDATION_SHARE = 0.1  # of the labels that may train


def campaign_entries(state: State, ledger: Ledger) -> list[Entry]:
    """Return one entry per label: test set, those of the preparation that train, then in the order of rounds.

    Failures have none. A label that serves the test set is in no other split. Whether a label trains or validates
    depends on its key alone, so the split of a label never changes while the campaign grows.
    """
    entries: dict[str, Entry] = {}
    arms: dict[str, list[str]] = {}
    test = {pick.key for pick in state.test or ()}
    for arm, pick in _all_picks(state):
        if arm and pick.key not in test and arm not in arms.setdefault(pick.key, []):
            arms[pick.key].append(arm)
        if pick.key in entries:
            continue
        label = ledger.get(pick.key)
        if isinstance(label, Label):
            temperature = float("nan") if pick.temperature is None else pick.temperature
            split = "test" if pick.key in test else _split(pick.key)
            entries[pick.key] = Entry(pick.key, label, pick.system, temperature, pick.id, (), split)
    return [
        Entry(e.key, e.label, e.system, e.temperature, e.candidate, tuple(arms.get(e.key, ())), e.split)
        for e in entries.values()
    ]


def _all_picks(state: State) -> Iterable[tuple[str | None, Pick]]:
    for pick in (*(state.test or ()), *(state.prepared or ())):
        yield None, pick
    for step in sorted(state.picks, key=lambda step: (step.round, step.arm, step.repeat)):
        for pick in state.picks[step]:
            yield step.arm, pick


def _split(key: str) -> str:
    return "validation" if int(key[:8], 16) / 16**8 < VALIDATION_SHARE else "train"
