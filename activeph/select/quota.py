"""A fixed share of every batch for each system and temperature."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from activeph.records import Facts, FloatArray, IntArray, Prediction
from activeph.section import wrong_value
from activeph.select.base import FeatureArray, Known
from activeph.select.wrapping import WrappingSelector, apportion, given, refuse_unknown, select_by_groups

Share = Annotated[float, Field(ge=0, strict=False)]
Kelvin = Annotated[float, Field(gt=0, strict=False)]


class QuotaSelector(WrappingSelector):
    """Divides every batch among systems and temperatures in fixed shares; another selector chooses inside each group.

    Groups are the systems, the temperatures or their combinations that the pool holds; candidates whose temperature
    nobody knows are a group of their own. Counts are exact: n times the share, rounded by largest remainders, equal
    remainders drawn anew each round. Where a group holds fewer candidates than its quota, the others fill the batch in
    their shares. What is chosen in one group counts as labelled for the next, so that the batch is diverse as a whole.
    """

    kind: Literal["quota"] = "quota"
    by: tuple[Literal["system", "temperature"], ...] = Field(("system", "temperature"), strict=False, min_length=1)
    """What groups are made of: system, temperature, or both."""
    systems: dict[str, Share] = {}
    """Shares of systems relative to one another, by name; a crystal's is that of each of its defects too. Those not
    named have 1, and 0 is only taken at need."""
    temperatures: dict[Kelvin, Share] = {}
    """Shares of temperatures in K relative to one another; those not named have 1, and 0 is only taken at need."""

    @field_validator("systems", "temperatures")
    @classmethod
    def _shares_of_groups(cls, shares: dict[Any, float], info: ValidationInfo) -> dict[Any, float]:
        word = "system" if info.field_name == "systems" else "temperature"
        if shares and word not in info.data.get("by", (word,)):
            raise wrong_value(f"must be left out where 'by' does not name {word}", f"add {word} to 'by' or remove it")
        return shares

    def check(self, known: Known) -> None:
        """Raise ``wrong_value`` where a share is given to a system or temperature that the campaign does not have."""
        super().check(known)
        refuse_unknown(self.systems, known.systems, "systems", "systems")
        if known.temperatures:
            refuse_unknown(
                [f"{kelvin:g}" for kelvin in self.temperatures],
                [f"{kelvin:g}" for kelvin in known.temperatures],
                "temperatures",
                "temperatures",
            )

    def select(
        self, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` distinct indices, group by group. Raises InputError for a request that cannot be met."""
        checked, facts, labelled = self._checked(pool, labelled_features, n)
        groups, shares = self._groups(facts)
        sizes = np.array([len(rows) for rows in groups], dtype=np.int64)
        counts = apportion(n, shares, sizes, rng.permutation(len(groups)))
        return select_by_groups(self, checked, labelled, groups, counts, rng)

    def _groups(self, facts: Facts) -> tuple[list[IntArray], FloatArray]:
        """Return rows and share of each group, in the order of systems, then temperatures (the unknown one last)."""
        systems = facts.systems if "system" in self.by else np.zeros(len(facts), dtype=np.int16)
        kelvins = facts.temperatures if "temperature" in self.by else np.zeros(len(facts), dtype=np.float32)
        known, codes = np.unique(kelvins, return_inverse=True)
        names, inverse = np.unique(systems.astype(np.int64) * len(known) + codes, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        groups = np.split(order, np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1])
        of_systems = given(facts, self.systems, 1.0)
        shares = [of_systems[code // len(known)] * self._temperature_share(known[code % len(known)]) for code in names]
        return list(groups), np.array(shares)

    def _temperature_share(self, kelvin: float) -> float:
        return next((share for key, share in self.temperatures.items() if abs(key - kelvin) < 0.5), 1.0)
