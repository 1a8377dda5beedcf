"""Sums of functions of the distance over all pairs of two elements: what a pair potential is linear in.

Distances are counted on a grid (each pair shared between its two nearest points), and the counts multiplied by the
functions' values there: one pass over the pairs, however many functions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activeph.graphs.neighbours import NeighbourFinder
from activeph.records import Block, FloatArray, IntArray, System

STEP = 0.01  # Å between grid points
CHUNK = 256  # structures whose pairs are held at once


class PairSums:
    """Sums over the pairs of one system's configurations; ``elements`` are sorted atomic numbers.

    The functions are sin(nπd/r_c)/d, n = 1..``n_radial``, times a cosine cutoff (DimeNet's basis, arXiv:2003.03123).
    Atoms of other elements are left out.
    """

    def __init__(self, system: System, elements: IntArray, cutoff: float, n_radial: int) -> None:
        self._finder = NeighbourFinder({system.name: system}, cutoff)
        self._elements = elements
        n = len(elements)
        self._classes = np.zeros((n + 1, n + 1), dtype=np.int64)  # the last row and column are for other elements
        rows, columns = np.triu_indices(n)
        self._n_classes = len(rows)
        self._classes[:] = self._n_classes
        self._classes[rows, columns] = self._classes[columns, rows] = np.arange(self._n_classes)
        grid = STEP * np.arange(1, int(np.ceil(cutoff / STEP)) + 2)
        waves = np.sin(np.arange(1, n_radial + 1) * np.pi / cutoff * grid[:, None])
        envelope = np.where(grid < cutoff, 0.5 * (np.cos(grid * np.pi / cutoff) + 1), 0)
        self._values = waves * (envelope / grid)[:, None]  # [G, n]

    @property
    def count(self) -> int:
        """Number of sums per configuration."""
        return int(self._n_classes * self._values.shape[1])

    def evaluate(self, block: Block) -> FloatArray:
        """Return the sums [B, count] per atom of configurations."""
        slots = np.searchsorted(self._elements, block.species)
        slots[slots == len(self._elements)] = 0
        slots = np.where(self._elements[slots] == block.species, slots, len(self._elements))
        starts = range(0, len(block), CHUNK)
        return np.concatenate([self._evaluate(block, slots, slice(start, start + CHUNK)) for start in starts])

    def _evaluate(self, block: Block, slots: IntArray, rows: slice) -> FloatArray:
        part = replace(
            block,
            species=block.species[rows],
            positions=block.positions[rows],
            cells=block.cells[rows],
            temperatures=block.temperatures[rows],
        )
        edges = self._finder.edges(part)
        n_structures, n_atoms = part.species.shape
        of_atoms = slots[rows].ravel()
        classes = self._classes[of_atoms[edges.i], of_atoms[edges.j]]
        places = np.sqrt(np.einsum("hx,hx->h", edges.vectors, edges.vectors)) / STEP - 1  # grid points count from STEP
        lower = np.clip(places.astype(np.int64), 0, len(self._values) - 2)
        share = places - lower
        size = len(self._values)
        first = (edges.i // n_atoms * (self._n_classes + 1) + classes) * size + lower
        total = n_structures * (self._n_classes + 1) * size
        counts = np.bincount(first, 1 - share, total) + np.bincount(first + 1, share, total)
        counts = counts.reshape(n_structures, self._n_classes + 1, size)[:, : self._n_classes]
        return np.asarray((counts @ self._values).reshape(n_structures, -1) / n_atoms)
