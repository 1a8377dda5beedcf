"""Labels where they teach most for their time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from activeph.records import Facts, FloatArray, IntArray, Prediction
from activeph.section import wrong_value
from activeph.select.base import FeatureArray, Known
from activeph.select.wrapping import WrappingSelector, apportion, given, refuse_unknown, select_by_groups


class CostAwareSelector(WrappingSelector):
    """Divides every batch among systems by what a label teaches and what it costs; another selector chooses inside.

    A system's share is N u / √t, N being its candidates, u their mean uncertainty (1 where the inner selector needs no
    predictions) and t the time of a label: the allocation of least variance for a given total time (W. G. Cochran,
    "Sampling Techniques", 3rd ed. 1977, section 5.5). Counts are rounded by largest remainders. Where t is measured,
    selections depend on the machine that labels; give ``seconds`` for selections that anyone can repeat. In a campaign
    of one system nothing changes.
    """

    kind: Literal["cost-aware"] = "cost-aware"
    seconds: dict[str, Annotated[float, Field(gt=0, strict=False)]] = {}
    """Time of one label by system, in any unit, a crystal's being that of its defects too; default: the mean of those
    made so far, systems without labels by the square of their number of atoms."""

    def check(self, known: Known) -> None:
        """Raise ``wrong_value`` where a time is given for a system that the campaign does not have, or not for all."""
        super().check(known)
        refuse_unknown(self.seconds, known.systems, "seconds", "systems")
        missing = [name for name in known.systems if self.seconds and name not in self.seconds]
        if missing:
            raise wrong_value(
                "must give the time of a label of every system, or of none",
                f"add {missing[0]}",
                f"none of {missing[0]!r}",
                ("seconds",),
            )

    def select(
        self, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` distinct indices, system by system. Raises InputError for a request that cannot be met."""
        checked, facts, labelled = self._checked(pool, labelled_features, n)
        groups = [np.flatnonzero(facts.systems == code) for code in range(len(facts.names))]
        sizes = np.array([len(rows) for rows in groups], dtype=np.int64)
        shares = sizes * self._uncertainties(checked, groups) / np.sqrt(self._times(facts))
        counts = apportion(n, shares, sizes, rng.permutation(len(groups)))
        return select_by_groups(self, checked, labelled, groups, counts, rng)

    def _uncertainties(self, pool: Prediction | Facts, groups: Sequence[IntArray]) -> FloatArray:
        """Return the mean uncertainty of each group; ones where nothing is uncertain or known to be so."""
        if not isinstance(pool, Prediction) or not self.needs_model:
            return np.ones(len(groups))
        values = pool.uncertainty
        means = np.array([values[rows].mean() if len(rows) else 0.0 for rows in groups])
        return means if means.any() else np.ones(len(groups))

    def _times(self, facts: Facts) -> FloatArray:
        """Return the time of a label of each system; ones where a time is missing, so that none is favoured."""
        times = given(facts, self.seconds, np.nan) if self.seconds else facts.seconds
        return times if np.all(times > 0) else np.ones(len(times))
