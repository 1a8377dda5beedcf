"""Only candidates that a model can be trusted with."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from activeph.records import Facts, FloatArray, IntArray, Prediction
from activeph.section import wrong_value
from activeph.select.base import FeatureArray, Known, checked_request
from activeph.select.distances import Distances, centred
from activeph.select.wrapping import WrappingSelector, facts_of, refuse_unknown

Range = Annotated[
    tuple[Annotated[float, Field(strict=False)], Annotated[float, Field(strict=False)]], Field(strict=False)
]


class FilteredSelector(WrappingSelector):
    """Leaves candidates out that are too uncertain, too far from all labels, or predicted to be unphysical.

    Another selector chooses among the rest. Where fewer are left than the batch needs, those that miss the limits
    least fill it: a campaign goes on, and ``selection.json`` shows their uncertainties. Distances between atoms and
    the size of displacements are limited by the samplers' own guards, before anything is predicted.
    """

    kind: Literal["filtered"] = "filtered"
    largest_uncertainty: float | None = Field(None, gt=0)
    """Largest uncertainty allowed, in standard deviations of the training targets (1: the model knows nothing), for
    `mace` in root mean squares of the labelled forces; null: no limit."""
    largest_distance: float | None = Field(None, gt=0)
    """Largest distance from the nearest label in feature space, in units of the median distance between a label and
    the one nearest to it; null: no limit."""
    within: dict[str, Range] = {}
    """Lowest and highest predicted value of targets, in the units of labels (eV, eV/Å³), such as band_gap: [0.2, 5]."""

    @field_validator("within")
    @classmethod
    def _ranges_have_an_order(cls, within: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in within.items():
            if not low < high:
                raise wrong_value("must be a lower and a higher value", "exchange them", f"{[low, high]} for {name}")
        return within

    @model_validator(mode="after")
    def _limits_something(self) -> FilteredSelector:
        if self.largest_uncertainty is None and self.largest_distance is None and not self.within:
            raise wrong_value(
                "must have at least one of largest_uncertainty, largest_distance and within",
                "add a limit, or use the selector under 'using' alone",
                "none",
            )
        return self

    @property
    def needs_model(self) -> bool:
        """Always true."""
        return True

    @property
    def needs_spread(self) -> bool:
        """Whether the filter or the wrapped selector needs more than one member."""
        return self.largest_uncertainty is not None or super().needs_spread

    def check(self, known: Known) -> None:
        """Raise ``wrong_value`` where ``within`` names what is no target of the campaign."""
        super().check(known)
        refuse_unknown(self.within, known.targets, "within", "targets")

    def select(
        self, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` distinct indices. Raises InputError for a request that cannot be met."""
        scored, labelled = checked_request("filtered", pool, labelled_features, n)
        excess = self._excess(scored, labelled)
        valid = np.flatnonzero(excess <= 0)
        if len(valid) >= n:
            return self._within(scored, valid, labelled, n, rng)
        invalid = np.flatnonzero(excess > 0)
        nearest = invalid[np.argsort(excess[invalid], kind="stable")[: n - len(valid)]]
        return np.concatenate([valid, nearest])

    def _excess(self, pool: Prediction, labelled: FeatureArray) -> FloatArray:
        """Return by how much each candidate misses the limits [S]: relative to them, the worst counts; 0 where none."""
        excess = np.zeros(len(pool))
        if self.largest_uncertainty is not None:
            excess = np.maximum(excess, pool.uncertainty / self.largest_uncertainty - 1)
        if self.largest_distance is not None and len(labelled) > 1:
            excess = np.maximum(excess, _novelty(pool, labelled) / self.largest_distance - 1)
        names = facts_of("filtered", pool).targets if self.within else ()
        mean = pool.mean
        for name, (low, high) in self.within.items():
            column = mean[:, names.index(name)]
            excess = np.maximum(excess, np.maximum(low - column, column - high) / (high - low))
        return excess


def _novelty(pool: Prediction, labelled: FeatureArray) -> FloatArray:
    """Return the distance of each candidate from its nearest label [S], 1 being the median among the labels."""
    points, centres = centred(pool.features, labelled)
    exact = centres.astype(np.float64)
    norms = np.sum(exact**2, axis=1)
    squares = norms[:, None] + norms - 2 * exact @ exact.T
    np.fill_diagonal(squares, np.inf)
    typical = np.median(np.sqrt(np.maximum(squares.min(axis=1), 0.0)))
    nearest = np.sqrt(np.maximum(Distances(points, centres).nearest, 0.0), dtype=np.float64)
    return np.asarray(nearest / max(float(typical), 1e-12))
