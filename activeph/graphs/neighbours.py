"""Neighbour lists of many small displacements of one crystal, from one search.

A pair (i, j, S) of the reference lies at d₀; in a configuration with cell C' = C F and atoms displaced by u from the
strained reference it lies at d₀ F + u_j − u_i, hence no closer than σ_min(F) |d₀| − 2 u_max. One search on the
reference within (r_c + 2 u_max) / σ_min(F) therefore holds every pair of every such configuration, and evaluating it
is arithmetic without a search. Configurations for which that radius grows too large are searched one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activeph.records import Block, Configuration, FloatArray, IntArray, System

CHUNK = 32  # structures evaluated together: arrays [pairs, CHUNK] stay in the cache
MAX_SKIN = 0.6  # of the cutoff: beyond it the superset holds more than four times the pairs that survive
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

    def edges(self, positions: FloatArray, cells: FloatArray) -> Edges | None:
        """Return the edges of configurations [B, N, 3], [B, 3, 3]; ``None`` where they are no small displacements."""
        if positions.shape[1:] != self._reference.positions.shape:
            return None
        unwrapped, reach = self._unwrap(positions, cells)
        if not reach <= self.cutoff * (1 + MAX_SKIN):
            return None
        if self._pairs is None or self._pairs.reach < reach:
            self._pairs = search_pairs(self._reference, np.ceil(reach / SKIN_STEP) * SKIN_STEP)
        return _join(list(_evaluate(self._pairs, unwrapped, cells, self.cutoff)))

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


def _evaluate(pairs: Pairs, positions: FloatArray, cells: FloatArray, cutoff: float) -> Iterator[Edges]:
    """Yield the pairs that are closer than ``cutoff``, for chunk after chunk of structures."""
    n_structures, n_atoms = positions.shape[:2]
    shared_cell = bool(np.all(cells == cells[:1]))
    for start in range(0, n_structures, CHUNK):
        columns = np.ascontiguousarray(positions[start : start + CHUNK].transpose(2, 1, 0))  # [3, N, B]
        if shared_cell:
            images = (pairs.shifts @ cells[0]).T[:, :, None]
        else:
            images = np.einsum("hk,bkx->xhb", pairs.shifts.astype(np.float64), cells[start : start + CHUNK])
        vectors, squares = _pair_vectors(pairs, columns, images)
        size = vectors.shape[2]
        near = np.flatnonzero(squares < cutoff**2)
        pair = near // size
        first_atom = (near - pair * size + start) * n_atoms
        yield Edges(first_atom + pairs.i[pair], first_atom + pairs.j[pair], vectors.reshape(3, -1)[:, near].T)


def _pair_vectors(pairs: Pairs, columns: FloatArray, images: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return vectors [3, H, B] and squared lengths [H, B] of the pairs; ``columns`` [3, N, B] are the positions."""
    shape = (len(pairs.i), columns.shape[2])
    vectors = np.empty((3, *shape))
    scratch = np.empty(shape)
    squares = np.zeros(shape)
    for component in range(3):
        along = vectors[component]
        np.take(columns[component], pairs.j, axis=0, out=along, mode="clip")  # "clip" writes without a buffer
        np.take(columns[component], pairs.i, axis=0, out=scratch, mode="clip")
        along -= scratch
        along += images[component]
        np.multiply(along, along, out=scratch)
        squares += scratch
    return vectors, squares


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
        self.cutoff = cutoff
        self._references = {name: ReferenceNeighbours(system.supercell, cutoff) for name, system in systems.items()}

    def edges(self, block: Block) -> Edges:
        """Return all edges shorter than the cutoff of every configuration of the block."""
        reference = self._references.get(block.system)
        edges = reference.edges(block.positions, block.cells) if reference else None
        return direct_edges(block.positions, block.cells, self.cutoff) if edges is None else edges
