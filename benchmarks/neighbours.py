"""Neighbours of a pool: ours from one reference list, matscipy's search and ASE's for each structure, in one run.

Ours come as tables (vectors and squared lengths of all pairs that may be close, structures last: what sums over pairs
read) and as edges (the pairs within the cutoff alone: what messages are passed along). Prints one JSON object:
structures per second and per core of CPU time (median of repeats), ratios, and whether the pairs within the cutoff
were matscipy's. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import json
import platform
from collections import deque

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list as ase_neighbours
from matscipy.neighbours import neighbour_list as matscipy_neighbours
from sampling import rate

from activeph.graphs.memory import keep_freed_memory
from activeph.graphs.neighbours import CHUNK, Edges, ReferenceNeighbours
from activeph.records import Configuration

BLOCK = 256  # structures of a table's block, as a round scores them
PERIODIC = np.array([True, True, True])


def perovskite() -> Atoms:
    """Return 40 atoms in a cube of 7.8 Å."""
    fractions = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("SrTiO3", scaled_positions=fractions, cell=[3.9] * 3, pbc=True) * (2, 2, 2)


# name -> (crystal, cutoff Å, standard deviation of the displacements Å, of the strain)
CASES = {
    "perovskite, 40 atoms, 5 Å, 300 K": (perovskite(), 5.0, 0.035, 0.0),
    "perovskite, 40 atoms, 5 Å, 300 K, strained by 1 %": (perovskite(), 5.0, 0.035, 0.01),
    "perovskite, 40 atoms, 6 Å, 300 K": (perovskite(), 6.0, 0.035, 0.0),
    "KBr, 16 atoms, 5.5 Å, soft at 300 K": (bulk("KBr", "rocksalt", a=6.775) * (2, 2, 2), 5.5, 0.12, 0.0),
    "perovskite, 40 atoms, 5 Å, rms 0.3 Å": (perovskite(), 5.0, 0.3, 0.0),
}


def measure(atoms: Atoms, cutoff: float, amplitude: float, strain: float) -> dict[str, float | bool]:
    reference = Configuration(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell))
    n, rng = 1024, np.random.default_rng(0)
    deformation = np.eye(3) + (strain * rng.normal(size=(n, 3, 3)) if strain else np.zeros((n, 1, 1)))
    positions = atoms.positions @ deformation + amplitude * rng.normal(size=(n, len(atoms), 3))
    cells = reference.cell @ deformation
    neighbours = ReferenceNeighbours(reference, cutoff)

    def edges() -> int:
        for start in range(0, n, CHUNK):
            if neighbours.edges(positions[start : start + CHUNK], cells[start : start + CHUNK]) is None:
                raise SystemExit("displacements are too large for a reference list")
        return n

    def tables() -> int:
        for start in range(0, n, BLOCK):
            deque(neighbours.tables(positions[start : start + BLOCK], cells[start : start + BLOCK]), maxlen=0)
        return n

    def matscipy() -> int:
        for places, cell in zip(positions[:128], cells, strict=False):
            matscipy_neighbours("ijD", cutoff=cutoff, positions=places, cell=cell, pbc=PERIODIC)
        return 128

    def ase() -> int:
        for places, cell in zip(positions[:8], cells, strict=False):
            ase_neighbours("ijD", Atoms(atoms.numbers, places, cell=cell, pbc=True), cutoff)
        return 8

    rates = {"tables": rate(tables), "edges": rate(edges), "matscipy": rate(matscipy), "ase": rate(ase)}
    found = {"edges": neighbours.edges(positions[:20], cells[:20]), "tables": near(neighbours, positions, cells)}
    truth = searched(positions[:20], cells, cutoff)
    return {
        **{f"{name} structures/s": round(value) for name, value in rates.items()},
        **{f"{ours}/matscipy": round(rates[ours] / rates["matscipy"], 1) for ours in ("tables", "edges")},
        **{f"{ours}/ase": round(rates[ours] / rates["ase"]) for ours in ("tables", "edges")},
        "directed edges": len(truth[0]) // 20,
        **{f"{name} are matscipy's": same(in_order(e.i, e.j, e.vectors), truth) for name, e in found.items()},
    }


def near(neighbours: ReferenceNeighbours, positions: np.ndarray, cells: np.ndarray) -> Edges:
    """Return the pairs within the cutoff in the tables of the first structures."""
    parts = []
    for rows, table in neighbours.tables(positions[:20], cells[:20]):
        pair, structure = np.nonzero(table.squares < neighbours.cutoff**2)
        first = (rows.start + structure) * positions.shape[1]
        vectors = table.vectors[:, pair, structure].T
        parts.append((first + table.pairs.i[pair], first + table.pairs.j[pair], vectors))
    return Edges(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def searched(positions: np.ndarray, cells: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return atoms and vectors of all directed edges by matscipy, in order."""
    parts = []
    for row, (places, cell) in enumerate(zip(positions, cells, strict=False)):
        i, j, d = matscipy_neighbours("ijD", cutoff=cutoff, positions=places, cell=cell, pbc=PERIODIC)
        parts.append((np.column_stack([i, j]) + row * len(places), d))
    return sort(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def in_order(i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both directions of every pair in order."""
    there, back = np.column_stack([i, j]), np.column_stack([j, i])
    return sort(np.concatenate([there, back]), np.concatenate([vectors, -vectors]))


def sort(atoms: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort directed edges by atoms, then along a crooked axis."""
    order = np.lexsort((vectors @ [1.0, 2**0.5, 5**0.5], atoms[:, 1], atoms[:, 0]))
    return atoms[order], vectors[order]


def same(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> bool:
    """Return whether edges join the same atoms by the same vectors."""
    return bool(np.array_equal(ours[0], theirs[0]) and np.allclose(ours[1], theirs[1], atol=2e-6))


if __name__ == "__main__":
    keep_freed_memory()
    print(
        json.dumps(
            {
                "what": "all neighbours in every structure of a pool, per core",
                "machine": platform.processor() or platform.machine(),
                "cases": {name: measure(*case) for name, case in CASES.items()},
            },
            indent=1,
        )
    )
