"""The baseline every other selector must beat: labels drawn with equal chance."""

from __future__ import annotations

from typing import Literal

import numpy as np

from activeph.records import Facts, IntArray, Prediction
from activeph.section import Section
from activeph.select.base import FeatureArray, check_count, size_of


class RandomSelector(Section):
    """Draws without replacement; every candidate has the same chance."""

    kind: Literal["random"] = "random"

    @property
    def needs_model(self) -> bool:
        """Always false: nothing is scored for it."""
        return False

    def select(
        self, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` distinct indices of a pool given by its size. Raises InputError where n exceeds it."""
        check_count(n, size_of(pool))
        return np.asarray(rng.choice(size_of(pool), size=n, replace=False), dtype=np.int64)
