"""A batch that covers the pool cluster by cluster: the typical candidate of each that has no label."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from activeph.records import IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector
from activeph.select.distances import Float32Array, centred, nearest_centres

LARGEST_SAMPLE = 20_000  # candidates that clusters are found from; all candidates are then put into them
ITERATIONS = 30
TIE = 1e-4  # of a cluster's extent: members as near to its centre as this are equally typical


class TypiclustSelector(ScoredSelector):
    """Clusters pool and labels together; takes the most typical candidate of the largest clusters without a label.

    There are as many clusters as labels and picks together, so at least as many are without a label as are picked.
    G. Hacohen, A. Dekel, D. Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets",
    ICML 2022, arXiv 2202.02794; here the most typical candidate is the one nearest to its cluster's mean. k-means
    starts from greedy k-means++: starts that seek the extremes, such as a batch of LCMD, made worse batches.
    """

    kind: Literal["typiclust"] = "typiclust"

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        points, known = centred(pool.features, labelled)
        sample = points
        if len(points) > max(LARGEST_SAMPLE, 2 * n):
            sample = points[rng.choice(len(points), max(LARGEST_SAMPLE, 2 * n), replace=False)]
        both = np.concatenate([sample, known])
        centres = k_means(both, k_means_starts(both, len(known) + n, rng))
        distances, owners = nearest_centres(points, centres)
        labels = np.zeros(len(centres), dtype=np.int64)
        if len(known):
            labels += np.bincount(nearest_centres(known, centres)[1], minlength=len(centres))
        return _typical(points, distances, owners, labels, n)


def k_means_starts(points: Float32Array, k: int, rng: np.random.Generator) -> Float32Array:
    """Return ``k`` of ``points`` [S, D], each the best of a few drawn by their squared distance from the others.

    D. Arthur, S. Vassilvitskii, SODA 2007; of 2 + ln k draws the one is taken that lowers the sum of distances most.
    """
    norms = np.einsum("sd,sd->s", points, points)
    starts = [int(rng.integers(len(points)))]
    nearest = np.maximum(norms + norms[starts[0]] - 2 * points @ points[starts[0]], 0.0)
    while len(starts) < k:
        cumulated = np.cumsum(nearest, dtype=np.float64)
        draws = rng.random(2 + int(np.log(k))) * cumulated[-1]
        drawn = np.minimum(np.searchsorted(cumulated, draws, side="right"), len(points) - 1)
        table = points[drawn] @ points.T
        table *= -2
        table += norms
        table += norms[drawn, None]
        np.clip(table, 0.0, nearest, out=table)
        best = int(np.argmin(table.sum(axis=1, dtype=np.float64)))
        starts.append(int(drawn[best]))
        nearest = table[best]
    return points[starts]


def k_means(points: Float32Array, centres: Float32Array) -> Float32Array:
    """Return the centres [C, D] of clusters of ``points`` [S, D] after Lloyd's iterations from those given."""
    for _ in range(ITERATIONS):
        owners = nearest_centres(points, centres)[1]
        sizes = np.bincount(owners, minlength=len(centres))
        order = np.argsort(owners, kind="stable")
        used = np.flatnonzero(sizes)
        sums = np.add.reduceat(points[order], np.concatenate([[0], np.cumsum(sizes[used])[:-1]]), dtype=np.float64)
        moved = centres.copy()
        moved[used] = sums / sizes[used, None]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _typical(
    points: Float32Array, distances: Float32Array, owners: NDArray[np.int32], labels: IntArray, n: int
) -> IntArray:
    """Return ``n`` candidates: one per cluster, those with fewest labels first, then the largest; again if need be."""
    sizes = np.bincount(owners, minlength=len(labels))
    members = np.split(np.argsort(owners, kind="stable"), np.cumsum(sizes)[:-1])
    norms = np.einsum("sd,sd->s", points, points)
    order = np.lexsort((-sizes, labels))
    picks: list[int] = []
    while len(picks) < n:
        for cluster in order[sizes[order] > 0][: n - len(picks)]:
            place = _most_typical(distances[members[cluster]], norms[members[cluster]])
            picks.append(int(members[cluster][place]))
            members[cluster] = np.delete(members[cluster], place)
            sizes[cluster] -= 1
    return np.array(picks, dtype=np.int64)


def _most_typical(distances: Float32Array, norms: Float32Array) -> int:
    """Return the member nearest to the centre; of those equally near (the two of a pair) the one of smallest norm."""
    near = distances <= distances.min() + TIE * max(float(distances.max()), 0.0)
    return int(np.argmin(np.where(near, norms, np.inf)))
