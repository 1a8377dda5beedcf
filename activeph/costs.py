"""What labels cost: the core-hours behind a learning curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from activeph.ledger_tools import read_facts
from activeph.store.ledger import UNFINISHED, Ledger

WITHOUT_COST = frozenset({"replay", "files"})
"""Kinds of labelers whose time here is not that of a calculation."""


def core_hours(ledger: Ledger, keys: Iterable[str]) -> dict[str, float]:
    """Return the core-hours of calculations by key: all attempts of this campaign's account, failed and lost ones too.

    What another campaign has calculated costs what its record says, on the cores that it would have here. Imported
    labels that tell no time are left out.
    """
    spent: defaultdict[str, float] = defaultdict(float)
    finished: set[str] = set()  # here; what was only begun here may have been calculated elsewhere
    for attempt in ledger.attempts():
        spent[attempt["key"]] += attempt["seconds"] * attempt["cores"] / 3600
        if attempt["outcome"] not in UNFINISHED:
            finished.add(attempt["key"])
    costs = {}
    for key in set(keys):
        if key not in finished:
            facts = read_facts(ledger.directory(key)) or {}
            seconds = (facts.get("provenance") or {}).get("wall_time")
            spent[key] += ledger.cores * seconds / 3600 if isinstance(seconds, int | float) else 0.0
        if spent[key] > 0:
            costs[key] = spent[key]
    return costs
