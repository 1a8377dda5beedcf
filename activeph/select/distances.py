"""Distances between candidates and what is already taken, in single precision, updated pick by pick."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeph.records import IntArray
from activeph.select.base import FeatureArray

Float32Array = NDArray[np.float32]

TAKEN = np.float32(-1.0)
"""In place of a squared distance: this candidate is a pick."""

_ROWS = 4096
"""Rows handled at once where a [rows, centres] table is needed: 4096 x 500 float32 stay inside 8 MB."""


class Distances:
    """Squared distance of every candidate to its nearest centre; centres are the labelled set and the picks so far.

    Distances within rounding error of zero are zero, and a candidate changes its centre only for one that is nearer
    by more than that, so that copies of one candidate are treated alike wherever they stand in the pool.
    """

    def __init__(self, points: Float32Array, centres: Float32Array) -> None:
        self.points = points  # [S, D]
        self.norms = np.einsum("sd,sd->s", points, points)
        self.tolerance = 16 * float(np.finfo(np.float32).eps * max(self.norms.max(), 1e-30))
        self.nearest, self.owners = nearest_centres(points, centres)  # [S], TAKEN for picks; [S] centre's index
        self.nearest[self.nearest <= self.tolerance] = 0.0
        self.n_centres = len(centres)

    def take(self, pick: int) -> tuple[IntArray, Float32Array, NDArray[np.int32]]:
        """Make row ``pick`` a centre; return the rows that moved to it, and their former distances and centres."""
        self.nearest[pick] = TAKEN
        to_pick = self.points @ (-2.0 * self.points[pick])
        to_pick += self.norms
        to_pick += self.norms[pick] + np.float32(self.tolerance)
        moved = np.flatnonzero(to_pick < self.nearest)
        before, owners = self.nearest[moved], self.owners[moved]
        closer = to_pick[moved] - np.float32(self.tolerance)
        closer[closer <= self.tolerance] = 0.0
        self.nearest[moved] = closer
        self.owners[moved] = self.n_centres
        self.n_centres += 1
        return moved, before, owners

    def lowest_free(self) -> int:
        """Return the first row that is not a pick."""
        return int(np.argmax(self.nearest != TAKEN))


def start(points: Float32Array, centres: Float32Array) -> tuple[Distances, list[int]]:
    """Return distances and first picks: none, or without any centre the candidate nearest to the origin."""
    if len(centres):
        return Distances(points, centres), []
    first = int(np.argmin(np.einsum("sd,sd->s", points, points)))
    distances = Distances(points, points[[first]])
    distances.nearest[first] = TAKEN
    return distances, [first]


def centred(pool: FeatureArray, labelled: FeatureArray) -> tuple[Float32Array, Float32Array]:
    """Return both in single precision, the pool's mean at the origin and the largest number 1.

    The shift is made in double precision, so that |x|² + |c|² - 2 x·c loses no digits to a common offset.
    """
    mean = pool.mean(axis=0, dtype=np.float64)
    parts = [array[i : i + _ROWS] for array in (pool, labelled) for i in range(0, len(array), _ROWS)]
    largest = max(float(np.abs(part - mean).max(initial=0.0)) for part in parts) or 1.0
    points = np.empty(pool.shape, dtype=np.float32)
    for i in range(0, len(pool), _ROWS):
        points[i : i + _ROWS] = (pool[i : i + _ROWS] - mean) / largest
    return points, np.ascontiguousarray((labelled - mean) / largest, dtype=np.float32)


def nearest_centres(points: Float32Array, centres: Float32Array) -> tuple[Float32Array, NDArray[np.int32]]:
    """Return the squared distance [S] to the nearest centre and that centre's index [S], the first of equals.

    Distances have a rounding error of some 1e-7 of the points' squared norms, and may be negative by as much.
    """
    distances = np.empty(len(points), dtype=np.float32)
    owners = np.empty(len(points), dtype=np.int32)
    centre_norms = np.einsum("ld,ld->l", centres, centres)
    transposed = np.ascontiguousarray(-2.0 * centres.T)
    for i in range(0, len(points), _ROWS):
        rows = slice(i, i + _ROWS)
        table = points[rows] @ transposed
        table += centre_norms
        owner = table.argmin(axis=1)
        owners[rows] = owner
        distances[rows] = table[np.arange(len(table)), owner]
    distances += np.einsum("sd,sd->s", points, points)
    return distances, owners
