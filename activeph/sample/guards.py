"""Which proposed configurations are refused before anybody scores or labels them: atoms too close, or gone too far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeph.graphs.pairs import PairTable, search_pairs
from activeph.records import FloatArray, System

FRACTION = 0.5
"""Pairs closer than this fraction of the sum of covalent radii are refused where no distance is given. Thermal
motion below melting stays above it; electronic-structure codes give nonsense below it."""

_TABLE = 2**18  # pairs times configurations in one table: five arrays of them stay near the processor


class Guard:
    """Tests configurations of one system against a smallest distance and a largest displacement. Exact.

    Pairs are found once around the undisplaced crystal, as far out as the displacements at hand can reach.
    """

    def __init__(self, system: System, minimum_distance: float | None, largest_displacement: float | None) -> None:
        """Prepare for distances in Å (None: half the sum of covalent radii) and displacements in Å (None: any)."""
        self._system = system
        self._limit = np.inf if largest_displacement is None else largest_displacement
        numbers = system.supercell.numbers
        if minimum_distance is None:
            from ase.data import covalent_radii

            radii = covalent_radii[numbers]
            self._smallest = FRACTION * (radii[:, None] + radii[None, :])  # [N, N] Å
        else:
            self._smallest = np.full((len(numbers), len(numbers)), minimum_distance)
        self._reach = -1.0
        self._room = np.empty(0, dtype=np.float32)

    def accepts(self, displacements: NDArray[np.floating], strains: FloatArray | None = None) -> NDArray[np.bool_]:
        """Return which configurations [B] pass. ``strains`` [B, 3, 3]: cell and positions are multiplied by 1 + it.

        ``displacements`` [B, N, 3] in Å are from the (strained) sites.
        """
        squares = np.einsum("bni,bni->nb", displacements, displacements).max(axis=0)  # Å², farthest atom
        accepted = squares <= self._limit**2
        stretch = 0.0 if strains is None else float(np.linalg.norm(strains, axis=(1, 2), ord=2).max(initial=0.0))
        reach = 2 * float(np.sqrt(squares.max(initial=0.0, where=accepted)))
        self._search(reach, stretch)
        near = np.flatnonzero(self._lengths * (1 - stretch) - self._smallest_of_pairs <= reach)
        if len(near) == 0:
            return np.asarray(accepted)
        step = max(1, _TABLE // len(near))
        for start in range(0, len(displacements), step):
            part = slice(start, start + step)
            accepted[part] &= self._apart(displacements[part], near, None if strains is None else strains[part])
        return np.asarray(accepted)

    def _search(self, reach: float, stretch: float) -> None:
        """Find all pairs that may come too close when both atoms move: once, again only where they move farther."""
        needed = (float(self._smallest.max()) + reach) / max(1 - stretch, 0.1)
        if needed <= self._reach:
            return
        cell = self._system.supercell
        self._reach = 1.25 * needed
        self._pairs = search_pairs(cell, self._reach)
        self._vectors = self._pairs.vectors(cell.positions, cell.cell)
        self._lengths = np.linalg.norm(self._vectors, axis=1)
        self._smallest_of_pairs = self._smallest[self._pairs.i, self._pairs.j]

    def _apart(
        self, displacements: NDArray[np.floating], near: NDArray[np.intp], strains: FloatArray | None
    ) -> NDArray[np.bool_]:
        """Return where all pairs ``near`` each other are apart."""
        vectors = self._vectors[near][None]
        between = vectors if strains is None else vectors + vectors @ strains  # [1 or B, H, 3]
        columns = np.ascontiguousarray(displacements.transpose(2, 1, 0), dtype=np.float32)
        table = PairTable(self._pairs.take(near), len(displacements), self._room)
        self._room = table.room
        table.fill(columns, between.transpose(2, 1, 0).astype(np.float32))
        limits = (self._smallest_of_pairs[near] ** 2).astype(np.float32)
        return np.asarray((table.squares >= limits[:, None]).all(axis=0))
