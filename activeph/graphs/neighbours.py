"""Neighbour lists of many small displacements of one crystal, from one search.

A pair (i, j, S) of the reference lies at d₀; in a configuration with cell C' = C F and atoms displaced by u from the
strained reference it lies at d₀ F + u_j − u_i, hence no closer than σ_min(F) |d₀| − 2 u_max. One search on the
reference within (r_c + 2 u_max) / σ_min(F) therefore holds every pair of every such configuration, and evaluating it
is arithmetic without a search. Configurations for which that radius grows too large are searched one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activeph.graphs.memory import keep_freed_memory
from activeph.records import Block, Configuration, FloatArray, IntArray, System

CHUNK = 32  # structures evaluated together: arrays [pairs, CHUNK] stay in the cache
MAX_SKIN = (
    1.0  # of the cutoff: beyond it the superset holds eight times the pairs that survive, and a search is as fast
)
SKIN_STEP = 0.25  # Å: reaches are rounded up to multiples, so that few lists serve all blocks


@dataclass(frozen=True, eq=False)
class Edges:
    """All pairs of B structures with N atoms each, every pair once; atom n of structure b has index b N + n."""

    i: IntArray  # [H]
    j: IntArray  # [H]
    vectors: FloatArray  # [H, 3] Å, from i to j


@dataclass(frozen=True, eq=False)
class Pairs:
    """Each pair of a periodic configuration once: j in the cell ``shifts`` away from i, closer than ``reach``."""

    i: IntArray  # [H]
    j: IntArray  # [H]
    shifts: IntArray  # [H, 3] cell vectors
    reach: float  # Å


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


class ReferenceNeighbours:
    """Neighbour lists of displaced copies of ``reference`` within ``cutoff`` (Å), without a search for each."""

    def __init__(self, reference: Configuration, cutoff: float) -> None:
        self.cutoff = cutoff
        self._reference = reference
        self._fractional = np.linalg.solve(reference.cell.T, reference.positions.T).T
        self._pairs: Pairs | None = None
        self._sheets: dict[int, _Sheet] = {}

    def edges(self, positions: FloatArray, cells: FloatArray) -> Edges | None:
        """Return the edges of configurations [B, N, 3], [B, 3, 3]; ``None`` where they are no small displacements."""
        if positions.shape[1:] != self._reference.positions.shape:
            return None
        unwrapped, reach = self._unwrap(positions, cells)
        if not reach <= self.cutoff * (1 + MAX_SKIN):
            return None
        if self._pairs is None or self._pairs.reach < reach:
            self._pairs = search_pairs(self._reference, np.ceil(reach / SKIN_STEP) * SKIN_STEP)
            self._sheets = {}
        starts = range(0, len(positions), CHUNK)
        return _join([self._evaluate(unwrapped, cells, slice(start, start + CHUNK)) for start in starts])

    def _evaluate(self, positions: FloatArray, cells: FloatArray, rows: slice) -> Edges:
        assert self._pairs is not None
        size = len(positions[rows])
        if size not in self._sheets:
            last = {CHUNK: self._sheets[CHUNK]} if CHUNK in self._sheets else {}
            self._sheets = last | {size: _Sheet(self._pairs, size, positions.shape[1])}
        edges = self._sheets[size].evaluate(positions[rows], cells[rows], self.cutoff)
        first = rows.start * positions.shape[1]
        return Edges(edges.i + first, edges.j + first, edges.vectors) if first else edges

    def _unwrap(self, positions: FloatArray, cells: FloatArray) -> tuple[FloatArray, float]:
        """Return positions without lattice jumps, and the radius on the reference that holds all their pairs."""
        if np.all(cells == cells[:1]):
            cells = cells[:1]
        moved = positions @ np.linalg.inv(cells) - self._fractional
        moved -= moved[:, :1]  # a translation of the whole crystal changes no distance
        jumps = np.round(moved)
        moved -= jumps
        moved -= moved.mean(axis=1, keepdims=True)
        largest = np.sqrt(np.max(np.sum((moved @ cells) ** 2, axis=2)))
        deformation = np.linalg.solve(self._reference.cell, cells)
        smallest_stretch = np.linalg.svd(deformation, compute_uv=False).min()
        unwrapped = positions - jumps @ cells if jumps.any() else positions
        return unwrapped, float((self.cutoff + 2 * largest) / smallest_stretch)


class _Sheet:
    """Pairs times structures [H, B] as arrays that are used again: fresh pages cost more than the arithmetic."""

    def __init__(self, pairs: Pairs, n_structures: int, n_atoms: int) -> None:
        shape = (len(pairs.i), n_structures)
        first_atoms = n_atoms * np.arange(n_structures)
        self._pairs = pairs
        self._i = (pairs.i[:, None] + first_atoms).ravel()
        self._j = (pairs.j[:, None] + first_atoms).ravel()
        self._vectors, self._scratch, self._squares = np.empty((3, *shape)), np.empty(shape), np.empty(shape)

    def evaluate(self, positions: FloatArray, cells: FloatArray, cutoff: float) -> Edges:
        """Return the edges of configurations [B, N, 3], [B, 3, 3] without lattice jumps."""
        self._fill(np.ascontiguousarray(positions.transpose(2, 1, 0)), self._images(cells))
        near = np.flatnonzero(self._squares < cutoff**2)
        return Edges(self._i[near], self._j[near], self._vectors.reshape(3, -1).take(near, axis=1).T)

    def _images(self, cells: FloatArray) -> FloatArray:
        """Return the cell shifts of the pairs in Å [3, H, B], B = 1 where all cells are equal."""
        if np.all(cells == cells[:1]):
            return np.asarray((self._pairs.shifts @ cells[0]).T[:, :, None])
        return np.asarray(np.einsum("hk,bkx->xhb", self._pairs.shifts.astype(np.float64), cells))

    def _fill(self, columns: FloatArray, images: FloatArray) -> None:
        """Compute vectors and squared lengths; ``columns`` [3, N, B] are the positions."""
        for component in range(3):
            along = self._vectors[component]
            np.take(columns[component], self._pairs.j, axis=0, out=along, mode="clip")  # "clip" writes without a buffer
            np.take(columns[component], self._pairs.i, axis=0, out=self._scratch, mode="clip")
            along -= self._scratch
            along += images[component]
            if component == 0:
                np.multiply(along, along, out=self._squares)
            else:
                np.multiply(along, along, out=self._scratch)
                self._squares += self._scratch


def _join(parts: list[Edges]) -> Edges:
    if len(parts) == 1:
        return parts[0]
    return Edges(
        np.concatenate([part.i for part in parts]),
        np.concatenate([part.j for part in parts]),
        np.concatenate([part.vectors for part in parts]),
    )


def direct_edges(positions: FloatArray, cells: FloatArray, cutoff: float) -> Edges:
    """Return the edges of configurations [B, N, 3], [B, 3, 3] by one search for each."""
    parts = []
    n_atoms = positions.shape[1]
    numbers: NDArray[np.int64] = np.ones(n_atoms, dtype=np.int64)
    for index, (places, cell) in enumerate(zip(positions, cells, strict=True)):
        pairs = search_pairs(Configuration(numbers, places, cell), cutoff)
        vectors = places[pairs.j] - places[pairs.i] + pairs.shifts @ cell
        parts.append(Edges(index * n_atoms + pairs.i, index * n_atoms + pairs.j, vectors))
    return _join(parts)


class NeighbourFinder:
    """Finds the edges of blocks: by a system's reference list where that is exact, by a search where it is not."""

    def __init__(self, systems: Mapping[str, System], cutoff: float) -> None:
        keep_freed_memory()
        self.cutoff = cutoff
        self._references = {name: ReferenceNeighbours(system.supercell, cutoff) for name, system in systems.items()}

    def edges(self, block: Block) -> Edges:
        """Return all edges shorter than the cutoff of every configuration of the block."""
        reference = self._references.get(block.system)
        edges = reference.edges(block.positions, block.cells) if reference else None
        return direct_edges(block.positions, block.cells, self.cutoff) if edges is None else edges
