"""Sums of functions of the distance over all pairs of two elements: what a pair potential is linear in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from activeph.graphs.neighbours import NeighbourFinder
from activeph.graphs.pairs import Array, Pairs
from activeph.graphs.radial import radial_functions
from activeph.records import Block, FloatArray, IntArray, System

KEPT = 8  # lists of pairs whose classes are remembered


class PairSums:
    """Sums over the pairs of one system's configurations; ``elements`` are sorted atomic numbers.

    The functions are those of :func:`activeph.graphs.radial.radial_functions`. Atoms of other elements are left out.
    """

    def __init__(self, system: System, elements: IntArray, cutoff: float, n_radial: int) -> None:
        self._finder = NeighbourFinder({system.name: system}, cutoff)
        self._elements = elements
        self._n_radial = n_radial
        n = len(elements)
        self._classes = np.full((n + 1, n + 1), -1, dtype=np.int64)  # the last row and column are for other elements
        rows, columns = np.triu_indices(n)
        self._n_classes = len(rows)
        self._classes[rows, columns] = self._classes[columns, rows] = np.arange(self._n_classes)
        self._members: dict[tuple[Pairs, bytes], Array] = {}

    @property
    def count(self) -> int:
        """Number of sums per configuration."""
        return self._n_classes * self._n_radial

    def evaluate(self, block: Block) -> FloatArray:
        """Return the sums [B, count] per atom of configurations."""
        sums = np.empty((len(block), self._n_classes, self._n_radial))
        for rows, part in _of_one_species(block):
            for own, table in self._finder.tables(part):
                members = self._of_pairs(table.pairs, part.species[0])
                for n, values in enumerate(radial_functions(table.squares, self._finder.cutoff, self._n_radial)):
                    sums[rows[own], :, n] = (members @ values).T
        return np.asarray(sums.reshape(len(block), -1) / block.species.shape[1])

    def _of_pairs(self, pairs: Pairs, species: IntArray) -> Array:
        """Return which class each pair is in [classes, H]: 1 or 0."""
        key = pairs, species.tobytes()
        if key not in self._members:
            if len(self._members) == KEPT:
                self._members.clear()
            slots = np.searchsorted(self._elements, species)
            slots[slots == len(self._elements)] = 0
            slots = np.where(self._elements[slots] == species, slots, len(self._elements))
            of_pairs = self._classes[slots[pairs.i], slots[pairs.j]]
            self._members[key] = (of_pairs == np.arange(self._n_classes)[:, None]).astype(np.float32)
        return self._members[key]


@lru_cache(maxsize=KEPT)
def pair_sums_of(system: System, elements: tuple[int, ...], cutoff: float, n_radial: int) -> PairSums:
    """Return the sums of a system, with the pairs that were found before."""
    return PairSums(system, np.array(elements, dtype=np.int64), cutoff, n_radial)


def _of_one_species(block: Block) -> Iterator[tuple[IntArray, Block]]:
    """Yield rows and parts of a block in which every place has the same species in all configurations."""
    if np.all(block.species == block.species[:1]):
        yield np.arange(len(block)), block
        return
    _, kinds = np.unique(block.species, axis=0, return_inverse=True)
    for kind in range(kinds.max() + 1):
        rows = np.flatnonzero(kinds == kind)
        species, positions, cells = block.species[rows], block.positions[rows], block.cells[rows]
        temperatures = block.temperatures[rows]
        yield rows, replace(block, species=species, positions=positions, cells=cells, temperatures=temperatures)
