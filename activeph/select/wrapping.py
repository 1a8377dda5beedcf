"""What selectors share that let another one choose, among fewer candidates or one group after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic_core import PydanticCustomError

from activeph.errors import InputError
from activeph.records import Facts, FloatArray, IntArray, Prediction
from activeph.role import Role
from activeph.section import Section, wrong_value
from activeph.select.base import FeatureArray, Known, Selector, check_count, checked_request, size_of


class WrappingSelector(Section):
    """Base of selectors that let the one under ``using`` choose."""

    using: Annotated[Selector, Role("selectors", default="lcmd")] = Field(default={}, validate_default=True)  # type: ignore[assignment]
    """Selector of any kind that makes the choice; default: lcmd."""

    @property
    def needs_model(self) -> bool:
        """Whether the wrapped selector looks at predictions."""
        return self.using.needs_model

    @property
    def needs_facts(self) -> bool:
        """Always true."""
        return True

    @property
    def needs_spread(self) -> bool:
        """Whether the wrapped selector needs more than one member."""
        return bool(getattr(self.using, "needs_spread", False))

    def check(self, known: Known) -> None:
        """Raise ``wrong_value`` where a key names what the campaign does not have."""
        checked: Callable[..., None] | None = getattr(self.using, "check", None)
        if checked is None:
            return
        try:
            checked(known)
        except PydanticCustomError as error:
            context = dict(error.context or {})
            raise PydanticCustomError(
                "activeph", "{expected}; {remedy}", {**context, "key": ("using", *context["key"])}
            ) from None

    def _checked(
        self, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int
    ) -> tuple[Prediction | Facts, Facts, FeatureArray]:
        """Return pool, its facts, and labelled features. Raises InputError for a request that cannot be met."""
        name = str(getattr(self, "kind", type(self).__name__))
        if self.needs_model:
            scored, labelled = checked_request(name, pool, labelled_features, n)
            return scored, facts_of(name, scored), labelled
        facts = facts_of(name, pool)
        check_count(n, len(facts))
        return facts, facts, labelled_features

    def _within(
        self, pool: Prediction | Facts, rows: IntArray, labelled: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` of the ``rows`` that the wrapped selector chooses among them."""
        is_blind = not self.using.needs_model and not getattr(self.using, "needs_facts", False)
        return rows[self.using.select(len(rows) if is_blind else pool.take(rows), labelled, n, rng)]


def facts_of(name: str, pool: Prediction | Facts | int) -> Facts:
    """Return the facts of a pool. Raises InputError where it comes without."""
    facts = pool.facts if isinstance(pool, Prediction) else pool
    if not isinstance(facts, Facts):
        what = "size" if isinstance(pool, int) else "predictions"
        raise InputError(
            f"{name} needs the facts of the pool but got its {what} ({size_of(pool)}) alone; say what system and "
            "temperature each candidate has."
        )
    return facts


def given(facts: Facts, values: Mapping[str, float], default: float) -> FloatArray:
    """Return what a key says of each system [C]: under its own name, or that of the crystal it is a defect of."""
    hosts = facts.hosts or facts.names
    return np.array(
        [values.get(name, values.get(host, default)) for name, host in zip(facts.names, hosts, strict=True)]
    )


def select_by_groups(
    wrapper: WrappingSelector,
    pool: Prediction | Facts,
    labelled: FeatureArray,
    groups: Sequence[IntArray],
    counts: IntArray,
    rng: np.random.Generator,
) -> IntArray:
    """Return ``counts[g]`` candidates of each group; what is chosen in one counts as labelled for the next."""
    chosen = [np.empty(0, dtype=np.int64)]
    for rows, count in zip(groups, counts, strict=True):
        if count == 0:
            continue
        taken = np.concatenate(chosen)
        known = labelled
        if isinstance(pool, Prediction) and len(taken):
            known = np.concatenate([labelled, pool.features[taken]])
        chosen.append(wrapper._within(pool, rows, known, int(count), rng))
    return np.concatenate(chosen)


def apportion(n: int, shares: FloatArray, capacities: IntArray, order: IntArray) -> IntArray:
    """Return how many of ``n`` each group gives: the method of largest remainders under upper limits.

    Groups get n · share / Σ shares, rounded down; what is left goes one each to those with the largest remainders,
    equal ones in the given ``order`` (a permutation of the groups). A group with fewer members than that gives all it
    has and the others share the rest by the same rule; groups with share 0 give only where all others are empty.
    Raises InputError where the capacities hold fewer than ``n``.
    """
    check_count(n, int(capacities.sum()))
    counts = np.zeros(len(shares), dtype=np.int64)
    for weights in (shares, np.ones(len(shares))):
        open_ = (counts < capacities) & (weights > 0)
        while open_.any() and counts.sum() < n:
            left = n - counts[~open_].sum()
            ideal = np.where(open_, left * weights / weights[open_].sum(), 0.0)
            full = open_ & (ideal >= capacities)
            if full.any():
                counts[full] = capacities[full]
                open_ &= ~full
                continue
            counts[open_] = _rounded(ideal[open_], int(left), np.argsort(order)[open_])
            return counts
    return counts


def _rounded(ideal: FloatArray, total: int, places: IntArray) -> IntArray:
    """Return integers of the sum ``total`` that differ from ``ideal`` by less than 1; ties go by ``places``."""
    counts = np.floor(ideal + 1e-9).astype(np.int64)
    remainders = np.round(ideal - counts, 9)  # equal shares must tie
    counts[np.lexsort((places, -remainders))[: total - counts.sum()]] += 1
    return counts


def refuse_unknown(names: Iterable[str], known: Iterable[str], key: str, what: str) -> None:
    """Raise ``wrong_value`` where a name under ``key`` is none of those that the campaign has."""
    for name in names:
        if name not in known:
            expected = f"must name {what} of the campaign only ({', '.join(known)})"
            raise wrong_value(expected, "correct the name or remove it", repr(name), (key,))
