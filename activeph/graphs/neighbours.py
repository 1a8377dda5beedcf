"""Neighbour lists of many small displacements of one crystal, from one search.

A pair (i, j, S) of the reference lies at d₀; in a configuration with cell C' = C F and atoms displaced by u from the
strained reference it lies at d₀ F + u_j − u_i, hence no closer than σ_min(F) |d₀| − u₁ − u₂, u₁ and u₂ being the two
largest displacements. One search on the reference within (r_c + u₁ + u₂) / σ_min(F) therefore holds every pair of every
such configuration, and evaluating it is arithmetic without a search. Configurations for which that radius grows too
large are searched one by one.

What comes of it is of two kinds. Tables (:class:`activeph.graphs.pairs.PairTable`) keep all pairs of the search in
their places and are what sums over pairs read: four times as fast. Edges are the pairs within the cutoff alone, in
double precision, for networks that pass messages along them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeph.graphs.memory import keep_freed_memory
from activeph.graphs.pairs import Array, Pairs, PairTable, search_pairs
from activeph.records import Block, Configuration, FloatArray, IntArray, System

CHUNK = 32  # structures whose edges are found together: arrays [pairs, CHUNK] stay in the cache
TABLE = 64  # structures of one table, in half the precision
SHEETS = 4  # kept for the next edges
MAX_SKIN = (
    1.0  # of the cutoff: beyond it the superset holds eight times the pairs that survive, and a search is as fast
)
SKIN_STEP = 0.25  # Å: reaches are rounded up to multiples, so that few searches serve all blocks


@dataclass(frozen=True, eq=False)
class Edges:
    """All pairs of B structures with N atoms each, every pair once; atom n of structure b has index b N + n."""

    i: IntArray  # [H]
    j: IntArray  # [H]
    vectors: FloatArray  # [H, 3] Å, from i to j


class ReferenceNeighbours:
    """Neighbour lists of displaced copies of ``reference`` within ``cutoff`` (Å), without a search for each."""

    def __init__(self, reference: Configuration, cutoff: float) -> None:
        self.cutoff = cutoff
        self._reference = reference
        self._fractional: FloatArray = np.asarray(np.linalg.solve(reference.cell.T, reference.positions.T).T)
        self._searched: dict[int, Pairs] = {}
        self._sheets: dict[tuple[float, int], _Sheet] = {}
        self._room: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def edges(self, positions: FloatArray, cells: FloatArray) -> Edges | None:
        """Return the edges of configurations [B, N, 3], [B, 3, 3]; ``None`` where they are no small displacements."""
        moved = self._move(positions, cells)
        if moved is None:
            return None
        pairs = self._pairs(moved.reaches)
        unwrapped = positions if moved.jumps is None else positions - moved.jumps @ moved.cells
        parts = []
        for start in range(0, len(positions), CHUNK):
            rows = slice(start, start + CHUNK)
            sheet = self._sheet(pairs, *unwrapped[rows].shape[:2])
            found = sheet.evaluate(unwrapped[rows], moved.cells_of(rows), self.cutoff)
            first = start * positions.shape[1]
            parts.append(Edges(found.i + first, found.j + first, found.vectors) if first else found)
        return _join(parts)

    def tables(self, positions: FloatArray, cells: FloatArray) -> Iterator[tuple[slice, PairTable]] | None:
        """Return rows and pairs of configurations as :meth:`NeighbourFinder.tables`; ``None`` as :meth:`edges`."""
        moved = self._move(positions, cells)
        return None if moved is None else self._fill(moved)

    def _fill(self, moved: _Moved) -> Iterator[tuple[slice, PairTable]]:
        between: dict[Pairs, Array] = {}  # of structures in equal cells
        n = len(moved.reaches)
        for start in range(0, n, TABLE):
            rows = slice(start, min(start + TABLE, n))
            pairs = self._pairs(moved.reaches[rows])
            if len(moved.cells) > 1 or pairs not in between:
                between[pairs] = self._between(pairs, moved.cells_of(rows))
            table = PairTable(pairs, rows.stop - start, self._room)
            self._room = table.room
            table.fill(moved.displacements[:, :, rows].astype(np.float32), between[pairs])
            yield rows, table

    def _between(self, pairs: Pairs, cells: FloatArray) -> Array:
        """Return the vectors [3, H, B] in Å between the undisplaced atoms of pairs in strained cells [B, 3, 3]."""
        fractional = pairs.vectors(self._fractional, np.eye(3))
        return np.asarray(_placed(fractional.astype(np.float32), cells.astype(np.float32)))

    def _pairs(self, reaches: FloatArray) -> Pairs:
        """Return the pairs of the reference closer than any of ``reaches`` (Å): the same for the same structures."""
        steps = int(np.ceil(reaches.max(initial=self.cutoff) / SKIN_STEP))
        if steps not in self._searched:
            self._searched[steps] = search_pairs(self._reference, steps * SKIN_STEP)
        return self._searched[steps]

    def _sheet(self, pairs: Pairs, n_structures: int, n_atoms: int) -> _Sheet:
        key = pairs.reach, n_structures
        if key not in self._sheets:
            if len(self._sheets) == SHEETS:
                del self._sheets[next(iter(self._sheets))]
            self._sheets[key] = _Sheet(pairs, n_structures, n_atoms)
        return self._sheets[key]

    def _move(self, positions: FloatArray, cells: FloatArray) -> _Moved | None:
        """Return how configurations differ from the reference; ``None`` where these are no small displacements."""
        if positions.shape[1:] != self._reference.positions.shape:
            return None
        if np.all(cells == cells[:1]):
            cells = cells[:1]
        moved = np.array(positions.transpose(2, 1, 0), dtype=np.float64, order="C")  # structures last: long loops
        moved -= _placed(self._fractional, cells)
        moved -= moved[:, :1]  # a translation of the whole crystal changes no distance
        jumps: FloatArray = np.rint(_turned(moved, np.asarray(np.linalg.inv(cells))))
        jumped = bool(jumps.any())
        if jumped:
            moved -= _turned(jumps, cells)
        moved -= moved.mean(axis=1, keepdims=True)
        deformation = np.linalg.solve(self._reference.cell, cells)
        stretch = np.linalg.svd(deformation, compute_uv=False).min(axis=1)  # [1 or B]
        reaches = (self.cutoff + _approach(moved)) / stretch
        if not np.all(reaches <= self.cutoff * (1 + MAX_SKIN)):
            return None
        return _Moved(moved, jumps.transpose(2, 1, 0) if jumped else None, cells, reaches)


@dataclass(frozen=True, eq=False)
class _Moved:
    """How configurations differ from the strained reference."""

    displacements: FloatArray  # [3, N, B] Å, without lattice jumps and translation
    jumps: FloatArray | None  # [B, N, 3] cell vectors that atoms were written away, None where none was
    cells: FloatArray  # [B, 3, 3] Å, or [1, 3, 3] where all are equal
    reaches: FloatArray  # [B] Å; on the reference, that hold all their pairs

    def cells_of(self, rows: slice) -> FloatArray:
        """Return the cells of some configurations, [1, 3, 3] where all are equal."""
        return self.cells if len(self.cells) == 1 else self.cells[rows]


def _placed(fractional: Array, cells: Array) -> Any:
    """Return where fractional coordinates [N, 3] are in cells [B, 3, 3]: Å, [3, N, B]."""
    return np.matmul(fractional, np.ascontiguousarray(cells.transpose(2, 1, 0)))


def _turned(columns: FloatArray, matrices: FloatArray) -> FloatArray:
    """Return rows x A for x in ``columns`` [3, N, B] and matrices [B, 3, 3], or [1, 3, 3] for all."""
    if len(matrices) == 1:
        return np.asarray(np.tensordot(matrices[0].T, columns, axes=1))
    return np.asarray(np.einsum("xnb,xkb->knb", columns, np.ascontiguousarray(matrices.transpose(1, 2, 0))))


def _approach(displacements: FloatArray) -> FloatArray:
    """Return by how much (Å) two atoms may have come closer [B]: the two largest displacements of each together."""
    squares = np.einsum("xnb,xnb->bn", displacements, displacements)
    last = max(squares.shape[1] - 2, 0)
    return np.asarray(np.sqrt(np.partition(squares, last, axis=1)[:, last:]).sum(axis=1))


class _Sheet:
    """A table in double precision, and what turns it into edges."""

    def __init__(self, pairs: Pairs, n_structures: int, n_atoms: int) -> None:
        first_atoms = n_atoms * np.arange(n_structures)
        self._table = PairTable(pairs, n_structures, np.empty(0))
        self._i = (pairs.i[:, None] + first_atoms).ravel()
        self._j = (pairs.j[:, None] + first_atoms).ravel()

    def evaluate(self, positions: FloatArray, cells: FloatArray, cutoff: float) -> Edges:
        """Return the edges of configurations [B, N, 3], [B or 1, 3, 3] without lattice jumps."""
        self._table.fill(np.ascontiguousarray(positions.transpose(2, 1, 0)), self._images(cells))
        near = np.flatnonzero(self._table.squares < cutoff**2)
        vectors = np.asarray(self._table.vectors, dtype=np.float64).reshape(3, -1).take(near, axis=1).T
        return Edges(self._i.take(near), self._j.take(near), vectors)

    def _images(self, cells: FloatArray) -> FloatArray:
        """Return the cell shifts of the pairs in Å [3, H, B], B = 1 where one cell is given."""
        shifts = self._table.pairs.shifts
        if len(cells) == 1:
            return np.asarray((shifts @ cells[0]).T[:, :, None])
        return np.asarray(_placed(shifts.astype(np.float64), cells))


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
        vectors = pairs.vectors(places, cell)
        parts.append(Edges(index * n_atoms + pairs.i, index * n_atoms + pairs.j, vectors))
    return _join(parts)


def direct_tables(positions: FloatArray, cells: FloatArray, cutoff: float) -> Iterator[tuple[slice, PairTable]]:
    """Yield each configuration of [B, N, 3], [B, 3, 3] as a table of its own pairs, by one search for each."""
    numbers: NDArray[np.int64] = np.ones(positions.shape[1], dtype=np.int64)
    for index, (places, cell) in enumerate(zip(positions, cells, strict=True)):
        pairs = search_pairs(Configuration(numbers, places, cell), cutoff)
        table = PairTable(pairs, 1, np.empty(0))
        table.fill(np.ascontiguousarray(places.T)[:, :, None], (pairs.shifts @ cell).T[:, :, None])
        yield slice(index, index + 1), table


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

    def tables(self, block: Block) -> Iterator[tuple[slice, PairTable]]:
        """Yield rows of the block and a table of their pairs, which holds until the next one is asked for.

        All pairs closer than the cutoff are in it, and pairs beyond. Small displacements come many at a time, in single
        precision: a pair within 2e-6 Å of the cutoff may be found on its other side.
        """
        reference = self._references.get(block.system)
        tables = reference.tables(block.positions, block.cells) if reference else None
        return direct_tables(block.positions, block.cells, self.cutoff) if tables is None else tables
