"""Largest cluster maximum distance: a batch that is both representative and diverse.

D. Holzmüller, V. Zaverkin, J. Kästner, I. Steinwart, "A Framework and Benchmark for Deep Batch Active Learning for
Regression", J. Mach. Learn. Res. 24 (2023), arXiv 2203.09410, section 4.2 (LCMD) in its train-plus-picks mode (TP).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from activeph.records import IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector

Float32Array = NDArray[np.float32]

_TAKEN = np.float32(-1.0)
"""In place of a squared distance: this candidate is a pick."""

_ROWS = 4096
"""Rows handled at once where a [rows, centres] table is needed: 4096 x 500 float32 stay inside 8 MB."""


class LcmdSelector(ScoredSelector):
    """Clusters the pool around what is labelled; picks in the heaviest cluster the candidate furthest from its centre.

    Every candidate belongs to the nearest centre, the centres being the labelled set and the picks so far. The weight
    of a cluster is the sum of squared distances to its centre. Ties go to the lowest index. Without a labelled set
    the first pick is the candidate nearest to the pool's mean.
    """

    kind: Literal["lcmd"] = "lcmd"

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        points, centres = _scaled(pool.features, labelled)
        return largest_cluster_maximum_distance(points, centres, n)


def largest_cluster_maximum_distance(points: Float32Array, centres: Float32Array, n: int) -> IntArray:
    """Return ``n`` distinct rows of ``points`` [S, D]; ``centres`` [L, D] are already taken. O(S D (L + n))."""
    if len(centres) == 0:
        norms = np.einsum("sd,sd->s", points, points)
        first = int(np.argmin(norms))
        clusters = _Clusters(points, points[[first]])
        clusters.distances[first] = _TAKEN
        picks = [first]
    else:
        clusters = _Clusters(points, centres)
        picks = []
    while len(picks) < n:
        pick = clusters.furthest_of_heaviest()
        clusters.open(pick)
        picks.append(pick)
    return np.array(picks, dtype=np.int64)


class _Clusters:
    """Which centre each candidate belongs to, how far it is, and how heavy each cluster is; updated pick by pick."""

    def __init__(self, points: Float32Array, centres: Float32Array) -> None:
        self.points = points
        self.norms = np.einsum("sd,sd->s", points, points)
        self.tolerance = 16 * float(np.finfo(np.float32).eps * max(self.norms.max(), 1e-30))
        self.distances, self.owners = _nearest(points, self.norms, centres)  # squared distances
        self.distances[self.distances <= self.tolerance] = 0.0  # copies of centres
        self.weights = np.bincount(self.owners, self.distances, minlength=len(centres)).tolist()

    def furthest_of_heaviest(self) -> int:
        """Return the row to pick next; the lowest one that is not taken where only copies of centres are left."""
        weights = np.array(self.weights)
        heaviest = int(np.argmax(weights >= weights.max() * (1 - 1e-6)))
        members = np.flatnonzero((self.owners == heaviest) & (self.distances > 0.0))
        if len(members) == 0:
            return int(np.argmax(self.distances != _TAKEN))
        far = self.distances[members]
        return int(members[np.argmax(far >= far.max() - self.tolerance)])

    def open(self, pick: int) -> None:
        """Make row ``pick`` a centre and hand over to it whatever is nearer to it than to its present centre."""
        self.weights[self.owners[pick]] -= float(self.distances[pick])
        self.distances[pick] = _TAKEN
        to_pick = self.points @ (-2.0 * self.points[pick])
        to_pick += self.norms
        to_pick += self.norms[pick] + np.float32(self.tolerance)
        moved = np.flatnonzero(to_pick < self.distances)
        nearer = to_pick[moved] - np.float32(self.tolerance)
        nearer[nearer <= self.tolerance] = 0.0
        lost = np.bincount(self.owners[moved], self.distances[moved], minlength=len(self.weights))
        self.weights = [*np.maximum(self.weights - lost, 0.0).tolist(), float(nearer.sum(dtype=np.float64))]
        self.owners[moved] = len(self.weights) - 1
        self.distances[moved] = nearer


def _nearest(
    points: Float32Array, norms: Float32Array, centres: Float32Array
) -> tuple[Float32Array, NDArray[np.int32]]:
    """Return the squared distance [S] to the nearest centre and that centre's index [S], the first of equals."""
    distances = np.empty(len(points), dtype=np.float32)
    owners = np.empty(len(points), dtype=np.int32)
    centre_norms = np.einsum("ld,ld->l", centres, centres)
    transposed = np.ascontiguousarray(-2.0 * centres.T)
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        table = points[rows] @ transposed
        table += centre_norms
        owner = table.argmin(axis=1)
        owners[rows] = owner
        distances[rows] = table[np.arange(len(table)), owner]
    distances += norms
    return distances, owners


def _scaled(pool: FeatureArray, labelled: FeatureArray) -> tuple[Float32Array, Float32Array]:
    """Shift the pool's mean to the origin in double precision, so that |x|² + |c|² - 2 x·c loses no digits to it."""
    mean = pool.mean(axis=0, dtype=np.float64)
    points = np.empty(pool.shape, dtype=np.float32)
    largest = max((float(np.abs(array - mean).max()) for array in _chunks(pool, labelled)), default=0.0) or 1.0
    for start in range(0, len(pool), _ROWS):
        points[start : start + _ROWS] = (pool[start : start + _ROWS] - mean) / largest
    return points, np.ascontiguousarray((labelled - mean) / largest, dtype=np.float32)


def _chunks(*arrays: FeatureArray) -> list[FeatureArray]:
    return [array[start : start + _ROWS] for array in arrays for start in range(0, len(array), _ROWS)]
