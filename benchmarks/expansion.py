"""How each axis of a crystal expands: ours from few cells, and the direct minimum of E + F_vib beside it, in one run.

Alloys of copper and gold by the effective medium theory (ASE): a hexagonal and an orthorhombic one, with one and four
free coordinates of atoms. The direct way computes relaxed atoms, energy and new force constants at every step of
Newton's method. Prints one JSON object: changes of the axes in % from the static crystal, the numbers of cells that
either way computes, and where the crystal keeps its shape the one change of all lengths. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable

import ase
import numpy as np
from ase.calculators.emt import EMT
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal

from activeph.phonons.free_shape import chosen_cells
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import harmonic_free_energy
from activeph.records import Configuration, FloatArray, System
from activeph.systems import finite_displacements, with_force_constants
from activeph.systems.freedom import deformed, free_shapes, free_shifts
from activeph.systems.load import make_system
from activeph.systems.quasi_harmonic import cell_deformation, expanding_crystal, stretched

TEMPERATURE = 300.0  # K
STRAINS, DISTORTIONS = (-0.01, 0.0, 0.01, 0.02, 0.03), (-0.01, 0.01, 0.02)
STEP = 1.5e-3  # of the numerical derivatives
Member = tuple[System, float]


def main() -> None:
    """Measure and print."""
    hexagonal = crystal(
        ["Cu", "Au"],
        [(5 / 6, 2 / 3, 1 / 4), (1 / 3, 2 / 3, 1 / 4)],
        spacegroup=194,
        cellpar=[5.3, 5.3, 4.3, 90, 90, 120],
    )
    orthorhombic = crystal(
        ["Cu", "Cu", "Au"], [(0, 0.5, 0.34), (0.25, 0, 0.16), (0, 0, 0.66)], spacegroup=59,
        cellpar=[5.3, 4.6, 4.3, 90, 90, 90],
    )  # fmt: skip
    result = {
        "benchmark": "expansion",
        "temperature (K)": TEMPERATURE,
        "Cu3Au, hexagonal (D0_19)": compared(hexagonal, [1, 1, 2]),
        "Cu3Au, orthorhombic (D0_a)": compared(orthorhombic, [1, 1, 1]),
    }
    print(json.dumps(result, indent=2))


def compared(atoms: ase.Atoms, repeats: list[int]) -> dict[str, object]:
    """Return what either way says of one crystal."""
    system = relaxed_crystal(atoms, repeats)
    basis = free_shapes(system)
    start = time.process_time()
    cells = chosen_cells(len(basis), STRAINS, DISTORTIONS)
    free = expanding_crystal(system, [member(system, strain, shape) for strain, shape in cells], basis=basis)
    ours = np.eye(3) + free.cell(TEMPERATURE).strain
    between = time.process_time()
    found = free.series.equilibrium(TEMPERATURE)
    assert found is not None
    place, computed = direct_minimum(system, np.array([free.strain(found), *found.shape]))
    seconds = between - start, time.process_time() - between
    kept = expanding_crystal(system, [labelled(stretched(system, strain)) for strain in STRAINS])
    return {
        "free coordinates": len(free_shifts(system)),
        "free shape": axes(system, ours),
        "direct": axes(system, cell_deformation(basis, place[0], place[1:])),
        "kept shape": axes(system, np.eye(3) + kept.cell(TEMPERATURE).strain),
        "cells": {"free shape": len(cells), "direct": computed},
        "CPU s": {"free shape": round(seconds[0], 1), "direct": round(seconds[1], 1)},
    }


def relaxed_crystal(atoms: ase.Atoms, repeats: list[int]) -> System:
    """Return the crystal at rest, its cell included, with force constants."""
    atoms = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=EMT())
    atoms.set_constraint(FixSymmetry(atoms))
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=500)
    cell = Configuration(np.array(atoms.numbers), atoms.positions, atoms.cell.array)
    return labelled(make_system("Cu3Au", cell, repeats))[0]


def label(cell: Configuration) -> tuple[FloatArray, float]:
    """Return forces in eV/Å and the energy in eV."""
    atoms = ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True, calculator=EMT())
    return atoms.get_forces(), atoms.get_potential_energy()


def labelled(copy: System) -> Member:
    """Return a crystal with its force constants, and its energy in eV."""
    answers = [label(cell) for cell in finite_displacements(copy, 0.01)]
    return with_force_constants(copy, np.array([forces for forces, _ in answers]), 0.01), answers[0][1]


def member(system: System, strain: float, shape: FloatArray) -> Member:
    """Return a deformed copy with its atoms at rest."""
    free, shift = free_shifts(system), np.zeros((len(system.primitive_atoms), 3))
    deformation = cell_deformation(free_shapes(system), strain, shape)
    for _ in range(200):  # plain steps along the forces that symmetry allows
        forces = label(deformed(system, deformation, shift).supercell)[0][system.primitive_atoms]
        step = 0.1 * np.einsum("dax,ax,dby->by", free, forces, free)
        shift += step
        if np.abs(step).max() < 1e-6:
            break
    return labelled(deformed(system, deformation, shift))


def direct_minimum(system: System, place: FloatArray) -> tuple[FloatArray, int]:
    """Return strain and shape [1 + K] of least free energy by Newton's method, and how many cells that took."""
    computed = 0

    def free_energy(at: FloatArray) -> float:
        nonlocal computed
        computed += 1
        copy, energy = member(system, at[0], at[1:])
        return energy + harmonic_free_energy(harmonic_modes(copy).frequencies, TEMPERATURE)

    for _ in range(4):
        gradient, hessian = derivatives(free_energy, place)
        step = -np.linalg.solve(hessian, gradient)
        place = place + step
        if np.abs(step).max() < 2e-6:
            break
    return place, computed


def derivatives(function: Callable[[FloatArray], float], place: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return gradient [n] and second derivatives [n, n] by central differences."""
    n, unit = len(place), STEP * np.eye(len(place))
    middle = function(place)
    sides = np.array([[function(place + sign * row) for sign in (1, -1)] for row in unit])
    gradient = (sides[:, 0] - sides[:, 1]) / (2 * STEP)
    hessian = np.diag((sides.sum(axis=1) - 2 * middle) / STEP**2)
    for i, j in itertools.combinations(range(n), 2):
        corners = [a * b * function(place + a * unit[i] + b * unit[j]) for a in (1, -1) for b in (1, -1)]
        hessian[i, j] = hessian[j, i] = sum(corners) / (4 * STEP**2)
    return gradient, hessian


def axes(system: System, deformation: FloatArray) -> list[float]:
    """Return the changes of the unit cell's lengths in %."""
    own = system.unit_cell.cell
    lengths = np.linalg.norm(own @ deformation, axis=1) / np.linalg.norm(own, axis=1)
    return [round(float(100 * (length - 1)), 4) for length in lengths]


if __name__ == "__main__":
    main()
