"""The seam between scores and batches."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.records import IntArray, Prediction
from activeph.section import Section

FeatureArray = NDArray[np.floating[Any]]


class Selector(Protocol):
    """Chooses a batch from a scored pool: a pure function of its arguments."""

    kind: str

    @property
    def needs_model(self) -> bool:
        """False where the choice does not look at predictions, so that the pool need not be scored."""
        ...

    def select(
        self,
        pool: Prediction | int,
        labelled_features: NDArray[np.floating[Any]],
        n: int,
        rng: np.random.Generator,
    ) -> IntArray:
        """Return ``n`` distinct pool indices. ``pool`` is the pool's size alone where ``needs_model`` is false.

        ``labelled_features`` [L, D] are the features of what the arm has labelled already.
        """
        ...


class ScoredSelector(Section):
    """Base of all selectors that look at predictions: checks the request once, then asks ``_choose``."""

    @property
    def needs_model(self) -> bool:
        """Always true."""
        return True

    def select(
        self, pool: Prediction | int, labelled_features: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` distinct pool indices, best first. Raises InputError for a request that cannot be met."""
        if not isinstance(pool, Prediction):
            raise InputError(
                f"{type(self).__name__} needs predictions of the pool but got its size ({pool}) alone; score it first."
            )
        check_count(n, len(pool.features))
        labelled = _check_features(pool.features, labelled_features)
        _check_members(pool)
        return np.asarray(self._choose(pool, labelled, n, rng), dtype=np.int64)

    @abstractmethod
    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        """Return ``n`` distinct indices; the arguments are checked, ``labelled`` is [L, D] with L >= 0."""


def check_count(n: int, size: int) -> None:
    """Raise InputError unless 1 <= ``n`` <= ``size`` of the pool."""
    if not 1 <= n <= size:
        raise InputError(
            f"n must be between 1 and {size} (the pool's size) but got {n}; lower the batch or raise the pool."
        )


def _check_features(pool: FeatureArray, labelled: FeatureArray) -> FeatureArray:
    if pool.ndim != 2 or not np.all(np.isfinite(pool)):
        raise InputError(_feature_fault("pool", pool))
    if len(labelled) == 0:
        return np.empty((0, pool.shape[1]))
    if labelled.ndim != 2 or labelled.shape[1] != pool.shape[1] or not np.all(np.isfinite(labelled)):
        raise InputError(_feature_fault("labelled set", labelled, pool.shape[1]))
    return labelled


def _feature_fault(name: str, features: FeatureArray, width: int | None = None) -> str:
    expected = f"features of the {name} must be finite and of shape [S, {'D' if width is None else width}]"
    bad = int(np.sum(~np.isfinite(features).all(axis=-1))) if features.ndim == 2 else 0
    found = f"shape {features.shape}" + (f" with {bad} rows that hold NaN or infinity" if bad else "")
    return f"{expected} but got {found}; look at the model's training log."


def _check_members(pool: Prediction) -> None:
    bad = int(np.sum(~np.isfinite(pool.members).all(axis=(0, 2))))
    if bad:
        raise InputError(
            f"predictions of the pool must be finite but got NaN or infinity for {bad} candidates; "
            "look at the model's training log."
        )
