"""Which proposed configurations are refused before anybody scores or labels them: atoms too close, or gone too far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeph.records import FloatArray, System

FRACTION = 0.5
"""Pairs closer than this fraction of the sum of covalent radii are refused where no distance is given. Thermal
motion below melting stays above it; electronic-structure codes give nonsense below it."""

_CHUNK = 4096  # pairs times configurations handled at once, in thousands: bounds memory, not results


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

    def accepts(self, displacements: NDArray[np.floating], strains: FloatArray | None = None) -> NDArray[np.bool_]:
        """Return which configurations [B] pass. ``strains`` [B, 3, 3]: cell and positions are multiplied by 1 + it.

        ``displacements`` [B, N, 3] in Å are from the (strained) sites.
        """
        squares = np.einsum("bni,bni->nb", displacements, displacements).max(axis=0)  # Å², farthest atom
        accepted = squares <= self._limit**2
        stretch = 0.0 if strains is None else float(np.linalg.norm(strains, axis=(1, 2), ord=2).max(initial=0.0))
        self._search(2 * float(np.sqrt(squares.max(initial=0.0, where=accepted))), stretch)
        if len(self._first) == 0:
            return np.asarray(accepted)
        step = max(1, _CHUNK * 1000 // len(self._first))
        for start in range(0, len(displacements), step):
            part = slice(start, start + step)
            reach = 2 * float(np.sqrt(squares[part].max()))
            accepted[part] &= self._apart(displacements[part], reach, None if strains is None else strains[part])
        return np.asarray(accepted)

    def _search(self, reach: float, stretch: float) -> None:
        """Find all pairs that may come too close when both atoms move: once, again only where they move farther."""
        needed = (float(self._smallest.max()) + reach) / max(1 - stretch, 0.1)
        if needed <= self._reach:
            return
        from ase.neighborlist import primitive_neighbor_list

        cell = self._system.supercell
        self._reach = 1.25 * needed
        first, second, vectors, lengths = primitive_neighbor_list(
            "ijDd", [True] * 3, cell.cell, cell.positions, self._reach, self_interaction=True
        )
        once = (first < second) | ((first == second) & (_positive(vectors)))
        self._first, self._second, self._vectors = first[once], second[once], vectors[once].astype(np.float32)
        self._margin = (lengths - self._smallest[first, second])[once]
        self._squares = (self._smallest[first, second][once] ** 2).astype(np.float32)

    def _apart(
        self, displacements: NDArray[np.floating], reach: float, strains: FloatArray | None
    ) -> NDArray[np.bool_]:
        """Return where all pairs that can meet within ``reach`` Å are apart; every pair where the cell is strained."""
        near = slice(None) if strains is not None else np.flatnonzero(self._margin <= reach)
        vectors: NDArray[np.floating] = self._vectors[near]
        if strains is not None:
            vectors = vectors + vectors @ strains.transpose(0, 2, 1)
        apart = displacements[:, self._second[near]] - displacements[:, self._first[near]] + vectors
        return np.asarray((np.einsum("bpi,bpi->bp", apart, apart) >= self._squares[near]).all(axis=1))


def _positive(vectors: FloatArray) -> NDArray[np.bool_]:
    """Return True for one of each pair of opposite vectors [P, 3]."""
    x, y, z = np.round(vectors, 6).T
    return np.asarray((x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0)))))
