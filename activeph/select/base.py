"""The seam between scores and batches."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.records import Facts, IntArray, Prediction
from activeph.section import Section

FeatureArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Known:
    """What a campaign has that the keys of a selector may name."""

    systems: tuple[str, ...]
    targets: tuple[str, ...]
    temperatures: tuple[float, ...]  # K, empty where the sampler does not tell


class Selector(Protocol):
    """Chooses a batch from a pool: a pure function of its arguments.

    A selector that looks at system, temperature, label time or the names of targets has also ``needs_facts``, true,
    and ``check(known)``, which raises ``wrong_value`` where its keys name what the campaign does not have.
    """

    kind: str

    @property
    def needs_model(self) -> bool:
        """False where the choice does not look at predictions, so that the pool need not be scored."""
        ...

    def select(
        self,
        pool: Prediction | Facts | int,
        labelled_features: NDArray[np.floating[Any]],
        n: int,
        rng: np.random.Generator,
    ) -> IntArray:
        """Return ``n`` distinct pool indices.

        ``pool`` holds the predictions, with the facts beside them for a selector with ``needs_facts``; where
        ``needs_model`` is false it is the facts alone, or for a selector without ``needs_facts`` the pool's size.
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
        self, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int, rng: np.random.Generator
    ) -> IntArray:
        """Return ``n`` distinct pool indices, best first. Raises InputError for a request that cannot be met."""
        scored, labelled = checked_request(type(self).__name__, pool, labelled_features, n)
        return np.asarray(self._choose(scored, labelled, n, rng), dtype=np.int64)

    @abstractmethod
    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        """Return ``n`` distinct indices; the arguments are checked, ``labelled`` is [L, D] with L >= 0."""


def checked_request(
    name: str, pool: Prediction | Facts | int, labelled_features: FeatureArray, n: int
) -> tuple[Prediction, FeatureArray]:
    """Return predictions and labelled features [L, D]. Raises InputError for a request that cannot be met."""
    if not isinstance(pool, Prediction):
        raise InputError(
            f"{name} needs predictions of the pool but got its size ({size_of(pool)}) alone; score it first."
        )
    check_count(n, len(pool))
    labelled = _check_features(pool.features, labelled_features)
    _check_members(pool)
    return pool, labelled


def size_of(pool: Prediction | Facts | int) -> int:
    """Return the number of candidates."""
    return pool if isinstance(pool, int) else len(pool)


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
    finite = np.isfinite(pool.members).all(axis=(0, 2))
    if pool.spread is not None:
        finite &= np.isfinite(pool.spread)
    bad = int(np.sum(~finite))
    if bad:
        raise InputError(
            f"predictions of the pool must be finite but got NaN or infinity for {bad} candidates; "
            "look at the model's training log."
        )
