"""Pairs of atoms of a periodic crystal, and their vectors in many structures at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeph.records import Configuration, FloatArray, IntArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Each pair of a periodic configuration once: j in the cell ``shifts`` away from i, closer than ``reach``."""

    i: IntArray  # [H]
    j: IntArray  # [H]
    shifts: IntArray  # [H, 3] cell vectors
    reach: float  # Å

    def vectors(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """Return the vectors [H, 3] from i to j in the units of positions [N, 3] and cell [3, 3]."""
        return np.asarray(positions[self.j] - positions[self.i] + self.shifts @ cell)

    def take(self, rows: NDArray[Any]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.i[rows], self.j[rows], self.shifts[rows], self.reach)


def search_pairs(configuration: Configuration, reach: float) -> Pairs:
    """Return all pairs closer than ``reach`` (Å), an atom and its own images among them, by matscipy's cell list."""
    from matscipy.neighbours import neighbour_list

    i, j, shifts = neighbour_list(
        "ijS",
        cutoff=reach,
        positions=configuration.positions,
        cell=configuration.cell,
        pbc=np.array([True, True, True]),
    )
    x, y, z = shifts.T
    positive = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    once = (i < j) | ((i == j) & positive)
    return Pairs(i[once].astype(np.int64), j[once].astype(np.int64), shifts[once].astype(np.int64), reach)


class PairTable:
    """The vectors of one list of pairs in B structures, structures last, so that one pair of all lies together.

    Nothing is sought, chosen or copied together: pairs that are too far apart stay in their places. Whoever sums over
    the table uses functions that vanish there, or compares ``squares``. Tables are made in the ``room`` of earlier
    ones, whose arrays they overwrite: fresh pages would cost more than the arithmetic.
    """

    def __init__(self, pairs: Pairs, n_structures: int, room: Array) -> None:
        """Make a table of the precision of ``room``, in it where it is large enough."""
        shape = (5, len(pairs.i), n_structures)
        size = math.prod(shape)
        self.room = room if room.size >= size else np.empty(size, room.dtype)
        arrays = self.room[:size].reshape(shape)
        self.pairs = pairs  # one object as long as the pairs are the same
        self.vectors: Array = arrays[:3]  # [3, H, B] Å, from i to j
        self.squares: Array = arrays[3]  # [H, B] Å², of their lengths
        self._scratch: Array = arrays[4]

    def fill(self, columns: Array, between: Array) -> None:
        """Compute the vectors x_j - x_i + ``between``.

        ``columns`` [3, N, B] hold x for every atom: positions or displacements, in the table's precision. ``between``
        [3, H, B or 1] is what they leave out: shifts of cells, or vectors between the places that atoms moved from.
        """
        for component, along in enumerate(self.vectors):
            np.take(columns[component], self.pairs.j, axis=0, out=along, mode="clip")  # "clip" writes without a buffer
            np.take(columns[component], self.pairs.i, axis=0, out=self._scratch, mode="clip")
            along -= self._scratch
            along += between[component]
            if component == 0:
                np.multiply(along, along, out=self.squares)
            else:
                np.multiply(along, along, out=self._scratch)
                self.squares += self._scratch
