"""Largest cluster maximum distance: a batch that is both representative and diverse.

D. Holzmüller, V. Zaverkin, J. Kästner, I. Steinwart, "A Framework and Benchmark for Deep Batch Active Learning for
Regression", J. Mach. Learn. Res. 24 (2023), arXiv 2203.09410, section 4.2 (LCMD) in its train-plus-picks mode (TP).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from activeph.records import FloatArray, IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector
from activeph.select.distances import Distances, Float32Array, centred, start


class LcmdSelector(ScoredSelector):
    """Clusters the pool around what is labelled; picks in the heaviest cluster the candidate furthest from its centre.

    Every candidate belongs to the nearest centre, the centres being the labelled set and the picks so far. The weight
    of a cluster is the sum of squared distances to its centre. Ties go to the lowest index. Without a labelled set
    the first pick is the candidate nearest to the pool's mean.
    """

    kind: Literal["lcmd"] = "lcmd"

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        points, centres = centred(pool.features, labelled)
        return largest_cluster_maximum_distance(points, centres, n)


def largest_cluster_maximum_distance(points: Float32Array, centres: Float32Array, n: int) -> IntArray:
    """Return ``n`` distinct rows of ``points`` [S, D]; ``centres`` [L, D] are already taken. O(S D (L + n))."""
    distances, picks = start(points, centres)
    weights = np.zeros(distances.n_centres + n)
    first = np.bincount(distances.owners, np.maximum(distances.nearest, 0.0))
    weights[: len(first)] = first
    while len(picks) < n:
        pick = _furthest_of_heaviest(distances, weights)
        weights[distances.owners[pick]] -= max(float(distances.nearest[pick]), 0.0)
        centre = distances.n_centres
        moved, before, owners = distances.take(pick)
        weights -= np.bincount(owners, before, minlength=len(weights))
        weights[centre] = distances.nearest[moved].sum(dtype=np.float64)
        np.maximum(weights, 0.0, out=weights)  # what rounding leaves of an emptied cluster
        picks.append(pick)
    return np.array(picks, dtype=np.int64)


def _furthest_of_heaviest(distances: Distances, weights: FloatArray) -> int:
    """Return the row to pick next; the lowest one that is not taken where only copies of centres are left."""
    heaviest = int(np.argmax(weights >= weights.max() * (1 - 1e-6)))
    members = np.flatnonzero((distances.owners == heaviest) & (distances.nearest > 0.0))
    if len(members) == 0:
        return distances.lowest_free()
    far = distances.nearest[members]
    return int(members[np.argmax(far >= far.max() - distances.tolerance)])
