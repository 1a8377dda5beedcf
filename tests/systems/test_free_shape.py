"""A hexagonal crystal with an internal coordinate (Cu3Au as D0_19, effective medium theory): how its axes expand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.spacegroup import crystal as symmetric

from activeph.errors import InputError
from activeph.phonons.free_shape import chosen_cells
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import harmonic_free_energy
from activeph.records import Configuration, System
from activeph.systems import finite_displacements, with_force_constants, write_phonopy
from activeph.systems.expansion import axis_coefficients, plot_expansion, write_expansion
from activeph.systems.freedom import deformed, free_shapes, free_shifts
from activeph.systems.load import make_system
from activeph.systems.quasi_harmonic import (
    ExpandingCrystal,
    cell_deformation,
    expanding_crystal,
    read_deformed,
    read_thermal_cell,
)

STRAINS, DISTORTIONS, T = (-0.01, 0.0, 0.01, 0.02), (-0.01, 0.01, 0.02), 300.0
Member = tuple[System, float]


def _label(cell: Configuration) -> tuple[np.ndarray, float]:
    atoms = ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True, calculator=EMT())
    return atoms.get_forces(), atoms.get_potential_energy()


def _member(system: System, strain: float, shape: np.ndarray) -> Member:
    """Return a deformed copy, its atoms relaxed by plain steps along the forces, and its energy."""
    free, shift = free_shifts(system), np.zeros((len(system.primitive_atoms), 3))
    deformation = cell_deformation(free_shapes(system), strain, shape)
    for _ in range(30):
        forces = _label(deformed(system, deformation, shift).supercell)[0][system.primitive_atoms]
        step = 0.1 * np.einsum("dax,ax,dby->by", free, forces, free)
        shift += step
        if np.abs(step).max() < 1e-5:
            break
    copy = deformed(system, deformation, shift)
    answers = [_label(cell) for cell in finite_displacements(copy, 0.01)]
    return with_force_constants(copy, np.array([forces for forces, _ in answers]), 0.01), answers[0][1]


@pytest.fixture(scope="module")
def alloy() -> System:
    atoms = symmetric(
        ["Cu", "Au"], [(0.8335, 0.667, 0.25), (1 / 3, 2 / 3, 0.25)], spacegroup=194,
        cellpar=[5.2474, 5.2474, 4.2654, 90, 90, 120],
    )  # fmt: skip
    cell = Configuration(np.array(atoms.numbers), atoms.positions, atoms.cell.array)
    return make_system("Cu3Au", cell, [1, 1, 2])


@pytest.fixture(scope="module")
def members(alloy: System) -> list[Member]:
    return [_member(alloy, strain, shape) for strain, shape in chosen_cells(1, STRAINS, DISTORTIONS)]


@pytest.fixture(scope="module")
def crystal(alloy: System, members: list[Member]) -> ExpandingCrystal:
    return expanding_crystal(alloy, members, "quantum", free_shapes(alloy))


def test_the_free_energy_is_least_there(alloy: System, crystal: ExpandingCrystal) -> None:
    """Force constants and energies computed anew beside the minimum: its parabolas have their bottoms there."""

    def free_energy(strain: float, shape: float) -> float:
        copy, energy = _member(alloy, strain, np.array([shape]))
        return energy + harmonic_free_energy(harmonic_modes(copy).frequencies, T)

    found = crystal.series.equilibrium(T)
    assert found is not None
    place, step = np.array([crystal.strain(found), *found.shape]), 2e-3
    middle = free_energy(*place)
    for direction in np.eye(2):
        left, right = (free_energy(*(place + sign * step * direction)) for sign in (-1, 1))
        bottom = 0.5 * step * (left - right) / (left + right - 2 * middle)
        assert abs(bottom) < 2e-4  # what polynomials leave of strains of 0.006 and 0.004
    assert middle == pytest.approx(found.free_energy, abs=2e-3)


def test_axes_expand_differently_and_atoms_move(alloy: System, crystal: ExpandingCrystal) -> None:
    a, b, c = axis_coefficients(crystal, T)
    assert a == pytest.approx(b, rel=1e-9)
    assert 1e-5 < a < 0.95 * c < 5e-5
    warm = crystal.cell(T)
    assert warm.shift is not None
    assert 1e-4 < np.abs(warm.shift).max() < 0.05
    found = crystal.series.equilibrium(T)
    assert found is not None
    copy, _ = _member(alloy, crystal.strain(found), np.array(found.shape))
    direct = copy.supercell.positions - alloy.supercell.positions @ (np.eye(3) + warm.strain)
    np.testing.assert_allclose(warm.shift, direct, atol=2e-4)
    assert copy.force_constants is not None
    assert np.abs(warm.force_constants - copy.force_constants).max() < 4e-3 * np.abs(copy.force_constants).max()


def test_table_and_picture(crystal: ExpandingCrystal, tmp_path: Path) -> None:
    write_expansion(crystal, [0.0, 300.0, 9000.0], tmp_path / "table.csv")
    head, *rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    assert len(rows) == 2  # temperatures that the cells enclose
    warm = dict(zip(head, map(float, rows[1]), strict=True))
    assert warm["a (Å)"] == pytest.approx(warm["b (Å)"], rel=1e-9)
    assert warm["gamma (°)"] == pytest.approx(120, abs=1e-7)
    whole = warm["a (Å)"] ** 2 * warm["c (Å)"] * np.sqrt(0.75)
    assert warm["volume (Å³ per supercell)"] == pytest.approx(2 * whole, rel=1e-8)
    assert 2 * warm["expansion of a (1/K)"] + warm["expansion of c (1/K)"] == pytest.approx(
        3 * warm["linear expansion (1/K)"], rel=1e-3
    )
    plot_expansion({"Cu3Au": crystal}, [150.0, 300.0], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_cells_come_back_from_their_files(
    alloy: System, members: list[Member], crystal: ExpandingCrystal, tmp_path: Path
) -> None:
    basis, copies = free_shapes(alloy), []
    for number, (copy, energy) in enumerate(members):
        write_phonopy(copy, tmp_path / f"{number}.yaml")
        copies.append((read_deformed(alloy, tmp_path / f"{number}.yaml", basis), energy))
    again = expanding_crystal(alloy, copies, "quantum", basis).cell(T)
    warm = crystal.cell(T)
    assert warm.shift is not None
    assert again.shift is not None
    np.testing.assert_allclose(again.strain, warm.strain, atol=1e-8)
    np.testing.assert_allclose(again.force_constants, warm.force_constants, atol=1e-6)
    np.testing.assert_allclose(again.shift, warm.shift, atol=1e-8)
    stored = read_thermal_cell(alloy, tmp_path / "4.yaml")
    np.testing.assert_allclose(
        alloy.supercell.cell @ (np.eye(3) + stored.strain), members[4][0].supercell.cell, atol=1e-9
    )
    bent = dataclasses.replace(
        deformed(alloy, np.diag([1.02, 1.0, 1.0])), force_constants=members[0][0].force_constants
    )
    write_phonopy(bent, tmp_path / "bent.yaml")
    with pytest.raises(InputError, match="deformed as its symmetry allows, in the same orientation, but got"):
        read_deformed(alloy, tmp_path / "bent.yaml", basis)
