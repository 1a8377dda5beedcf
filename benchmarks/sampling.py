"""Drawing thermal displacements: ours, phonopy's RandomDisplacements and hiphive's phonon rattle in one run.

Prints one JSON object: configurations per second and per core of CPU time (median of repeats) and ratios. The draw
alone is called for as many at a time as the second level of cache holds; phonopy and hiphive draw all at once, which
is their fastest way. All three are seeded once. A pool is drawn in its blocks of 256, each seeded, guarded and in
double precision; "with neighbours" adds the vectors and squared lengths of all pairs within 5 Å (tables), "with pair
sums" what kind modes makes of those within 6 Å. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from activeph.graphs.neighbours import NeighbourFinder
from activeph.graphs.pair_sums import PairSums
from activeph.phonons.draw import HarmonicDraw
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import thermal_amplitudes
from activeph.records import Block, Configuration, System
from activeph.sample.phonon import PhononSampler
from activeph.systems.load import make_system, phonopy_of

TEMPERATURE = 300.0
CUTOFF = 5.0  # Å
BLOCK = 256  # configurations together, as a round scores them
REPEATS = 5


def perovskite(repeats: list[int]) -> System:
    """Return a cubic perovskite, 5 atoms per cell, with nearest-neighbour springs (eV/Å²)."""
    cell = np.eye(3) * 3.9
    fractions = np.array([[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    system = make_system("perovskite", Configuration(np.array([38, 22, 8, 8, 8]), fractions @ cell, cell), repeats)
    constants = np.zeros((5, len(system.masses), 3, 3))
    inverse = np.linalg.inv(system.supercell.cell)
    for row, atom in enumerate(system.primitive_atoms):
        offsets = (system.supercell.positions - system.supercell.positions[atom]) @ inverse
        vectors = (offsets - np.rint(offsets)) @ system.supercell.cell
        lengths = np.linalg.norm(vectors, axis=1)
        for other in np.flatnonzero((lengths > 0) & (lengths < 2.9)):
            projector = np.outer(vectors[other], vectors[other]) / lengths[other] ** 2
            matrix = (6.0 * projector + 1.0 * (np.eye(3) - projector)) * (1.95 / lengths[other]) ** 4
            constants[row, other] -= matrix
            constants[row, atom] += matrix
    return dataclasses.replace(system, force_constants=constants)


def rate(function: Callable[[], int]) -> float:
    """Return configurations per second of CPU time, median of repeats after one warm-up."""
    function()
    rates = []
    for _ in range(REPEATS):
        start = time.process_time()
        rates.append(function() / (time.process_time() - start))
    return statistics.median(rates)


def ours(system: System, n: int, together: int) -> dict[str, float]:
    """Return rates of the bare draw, ``together`` at a time, and of a pool (guards, positions in double precision)."""
    modes = harmonic_modes(system)
    draw = HarmonicDraw([(modes, thermal_amplitudes(modes, TEMPERATURE))])
    turn = np.zeros(together, dtype=np.int64)

    def bare() -> int:
        bits = np.random.SFC64(7)
        for _ in range(n // together):
            draw(bits, turn)
        return n // together * together

    sampler = PhononSampler(temperatures=(TEMPERATURE,))
    unguarded = PhononSampler(temperatures=(TEMPERATURE,), minimum_distance=0.0)
    finder = NeighbourFinder({system.name: system}, CUTOFF)
    sums = PairSums(system, np.unique(system.supercell.numbers), 6.0, 8)

    def stream(sampler: PhononSampler, read: Callable[[Block], object]) -> Callable[[], int]:
        pool = sampler.pool(system, n, 1)

        def run() -> int:
            for start in range(0, n, BLOCK):
                read(pool.block(start, min(start + BLOCK, n)))
            return n

        return run

    return {
        "activeph_draw": rate(bare),
        "activeph_pool": rate(stream(sampler, len)),
        "activeph_pool_unguarded": rate(stream(unguarded, len)),
        "activeph_pool_with_neighbours": rate(stream(sampler, lambda block: deque(finder.tables(block), maxlen=0))),
        "activeph_pool_with_pair_sums": rate(stream(sampler, sums.evaluate)),
    }


def phonopy_rates(system: System, n: int) -> dict[str, float]:
    """Return rates of phonopy's RandomDisplacements, without and with a seed."""
    phonon = phonopy_of(system)
    phonon.init_random_displacements()
    displacements = phonon.random_displacements

    def run(seed: int | None) -> int:
        displacements.run(TEMPERATURE, number_of_snapshots=n, random_seed=seed)
        return n

    return {"phonopy": rate(lambda: run(None)), "phonopy_seeded": rate(lambda: run(7))}


def hiphive_rate(system: System, n: int) -> dict[str, float]:
    """Return the rate of hiphive's generate_phonon_rattled_structures, where hiphive is installed."""
    if importlib.util.find_spec("hiphive") is None:
        return {}
    import ase
    from hiphive.structure_generation import generate_phonon_rattled_structures

    from activeph.phonons.fit import full_force_constants

    cell = system.supercell
    atoms = ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True)
    constants = full_force_constants(system, system.force_constants)

    def run() -> int:
        generate_phonon_rattled_structures(atoms, constants, n, TEMPERATURE)
        return n

    return {"hiphive": rate(run)}


def main() -> None:
    """Measure and print."""
    result: dict[str, object] = {
        "benchmark": "sampling",
        "unit": "configurations per second of CPU time, one thread",
        "machine": platform.processor() or platform.machine(),
        "hiphive": "measured" if importlib.util.find_spec("hiphive") else "not installed",
    }
    for repeats, n, together, n_hiphive in (([2, 2, 2], 51_200, 768, 500), ([4, 4, 4], 2_560, 128, 20)):
        system = perovskite(repeats)
        rates = {**ours(system, n, together), **phonopy_rates(system, n), **hiphive_rate(system, n_hiphive)}
        ratios = {
            f"{mine}/{peer}": rates[mine] / rates[peer]
            for mine in ("activeph_draw", "activeph_pool")
            for peer in ("phonopy", "phonopy_seeded", "hiphive")
            if peer in rates
        }
        result[f"{len(system.masses)} atoms"] = {"rates": rates, "ratios": ratios}
    start = time.process_time()
    system = perovskite([8, 8, 7])  # 2240 atoms
    pool = PhononSampler(temperatures=(TEMPERATURE,)).pool(system, 512, 1)
    prepared = time.process_time()
    pool.block(0, 512)
    seconds = {"prepare": prepared - start, "draw_512": time.process_time() - prepared}
    result[f"{len(system.masses)} atoms"] = seconds
    pool = PhononSampler(temperatures=(TEMPERATURE,)).pool(perovskite([2, 2, 2]), 1_000_000, 1)
    start = time.process_time()
    for index in range(0, 1_000_000, 4096):
        pool.block(index, min(index + 4096, 1_000_000))
    result["a million candidates of 40 atoms, guarded (s)"] = time.process_time() - start
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
