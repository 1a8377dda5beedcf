"""Neighbour lists of a pool: ours from one reference list, matscipy's search and ASE's for each structure, in one run.

Prints one JSON object: structures per second and per core of CPU time (median of repeats), ratios, and whether the
edges were equal. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import json
import platform

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list as ase_neighbours
from matscipy.neighbours import neighbour_list as matscipy_neighbours
from sampling import rate

from activeph.graphs.memory import keep_freed_memory
from activeph.graphs.neighbours import CHUNK, ReferenceNeighbours
from activeph.records import Configuration

REPEATS = 5
PERIODIC = np.array([True, True, True])


def perovskite() -> Atoms:
    """Return 40 atoms in a cube of 7.8 Å."""
    fractions = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("SrTiO3", scaled_positions=fractions, cell=[3.9] * 3, pbc=True) * (2, 2, 2)


# name -> (crystal, cutoff Å, standard deviation of the displacements Å)
CASES = {
    "perovskite, 40 atoms, 5 Å, 300 K": (perovskite(), 5.0, 0.035),
    "perovskite, 40 atoms, 6 Å, 300 K": (perovskite(), 6.0, 0.035),
    "KBr, 16 atoms, 5.5 Å, soft at 300 K": (bulk("KBr", "rocksalt", a=6.775) * (2, 2, 2), 5.5, 0.12),
    "perovskite, 40 atoms, 5 Å, rms 0.3 Å": (perovskite(), 5.0, 0.3),
}


def measure(atoms: Atoms, cutoff: float, amplitude: float) -> dict[str, float | bool]:
    reference = Configuration(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell))
    n = 1024
    positions = atoms.positions + amplitude * np.random.default_rng(0).normal(size=(n, len(atoms), 3))
    cells = np.broadcast_to(reference.cell, (n, 3, 3))
    neighbours = ReferenceNeighbours(reference, cutoff)

    def ours() -> int:
        for start in range(0, n, CHUNK):
            if neighbours.edges(positions[start : start + CHUNK], cells[start : start + CHUNK]) is None:
                raise SystemExit("displacements are too large for a reference list")
        return n

    def matscipy() -> int:
        for places in positions[:128]:
            matscipy_neighbours("ijD", cutoff=cutoff, positions=places, cell=reference.cell, pbc=PERIODIC)
        return 128

    def ase() -> int:
        for places in positions[:8]:
            ase_neighbours("ijD", Atoms(atoms.numbers, places, cell=atoms.cell, pbc=True), cutoff)
        return 8

    rates = {"ours": rate(ours), "matscipy": rate(matscipy), "ase": rate(ase)}
    return {
        **{f"{name} structures/s": round(value) for name, value in rates.items()},
        "ours/matscipy": round(rates["ours"] / rates["matscipy"], 1),
        "ours/ase": round(rates["ours"] / rates["ase"]),
        "directed edges": 2 * len(neighbours.edges(positions[:1], cells[:1]).i),
        "edges equal": all(same_edges(neighbours, places, reference, cutoff) for places in positions[:20]),
    }


def same_edges(neighbours: ReferenceNeighbours, places: np.ndarray, reference: Configuration, cutoff: float) -> bool:
    """Compare atoms and vectors of all directed edges of one structure with matscipy's."""
    edges = neighbours.edges(places[None], reference.cell[None])
    i, j, d = matscipy_neighbours("ijD", cutoff=cutoff, positions=places, cell=reference.cell, pbc=PERIODIC)
    one = np.column_stack([edges.i, edges.j, edges.vectors])
    ours = np.concatenate([one, np.column_stack([edges.j, edges.i, -edges.vectors])])
    theirs = np.column_stack([i, j, d])
    if len(ours) != len(theirs):
        return False
    ours, theirs = (rows[np.lexsort(np.round(rows, 5).T)] for rows in (ours, theirs))
    return bool(np.allclose(ours, theirs, atol=1e-4))


if __name__ == "__main__":
    keep_freed_memory()
    print(
        json.dumps(
            {
                "what": "all edges of every structure of a pool, per core",
                "machine": platform.processor() or platform.machine(),
                "cases": {name: measure(*case) for name, case in CASES.items()},
            },
            indent=1,
        )
    )
