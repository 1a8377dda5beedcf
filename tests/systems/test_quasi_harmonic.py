"""Copper of the effective medium theory: its thermal expansion against phonopy's, and the files of a campaign."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from activeph.errors import InputError
from activeph.phonons.lattice import primitive_lattice
from activeph.records import Configuration, System
from activeph.systems import finite_displacements, with_force_constants, write_phonopy
from activeph.systems.expansion import expansion_coefficient, plot_expansion, write_expansion
from activeph.systems.freedom import free_shapes
from activeph.systems.load import make_system, phonopy_of
from activeph.systems.quasi_harmonic import (
    ExpandingCrystal,
    expanding_crystal,
    read_stretched,
    stretched,
)

STRAINS = (0.02, -0.01, 0.0, 0.01, 0.03)


def _label(cell: Configuration) -> tuple[np.ndarray, float]:
    atoms = ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True, calculator=EMT())
    return atoms.get_forces(), atoms.get_potential_energy()


@pytest.fixture(scope="module")
def copper() -> System:
    atoms = bulk("Cu", cubic=True, a=3.6)
    return make_system("Cu", Configuration(np.array(atoms.numbers), atoms.positions, atoms.cell.array), [2, 2, 2])


@pytest.fixture(scope="module")
def members(copper: System) -> list[tuple[System, float]]:
    found = []
    for strain in STRAINS:
        copy = stretched(copper, strain)
        answers = [_label(cell) for cell in finite_displacements(copy, 0.01)]
        found.append((with_force_constants(copy, np.array([forces for forces, _ in answers]), 0.01), answers[0][1]))
    return found


@pytest.fixture(scope="module")
def crystal(copper: System, members: list[tuple[System, float]]) -> ExpandingCrystal:
    return expanding_crystal(copper, members)


def test_cells_and_bulk_moduli_are_those_of_phonopy(
    members: list[tuple[System, float]], crystal: ExpandingCrystal
) -> None:
    from phonopy import PhonopyQHA
    from phonopy.physical_units import get_physical_units

    units = get_physical_units()
    temperatures = np.arange(0.0, 701.0, 10.0)
    order = np.argsort(STRAINS)
    free = []
    for index in order:
        phonon = phonopy_of(members[index][0])
        phonon.run_qpoints(primitive_lattice(members[index][0]).q_points)
        energies = np.sort(np.array(phonon.qpoints.frequencies).ravel())[3:] * units.THzToEv
        zero = energies.sum() / 2
        warm = [units.KB * T * np.log1p(-np.exp(-energies / units.KB / T)).sum() for T in temperatures[1:]]
        free.append([zero, *(zero + one for one in warm)])
    nothing = np.ones((len(temperatures), len(order)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PhonopyQHA(
            volumes=crystal.series.volumes,
            electronic_energies=crystal.series.energies,
            eos="birch_murnaghan",
            temperatures=temperatures,
            free_energy=np.array(free).T * units.EvTokJmol,
            cv=nothing,
            entropy=nothing,
            t_max=650,
        )
    for row in range(0, 61, 15):
        ours = crystal.series.equilibrium(float(temperatures[row]))
        assert ours is not None
        assert ours.volume == pytest.approx(theirs.volume_temperature[row], rel=1e-6)
        assert ours.bulk_modulus == pytest.approx(theirs.bulk_modulus_temperature[row], rel=1e-4)


def test_the_force_constants_are_those_of_the_expanded_crystal(copper: System, crystal: ExpandingCrystal) -> None:
    warm = crystal.cell(500.0)
    strain = warm.strain[0, 0]
    np.testing.assert_allclose(warm.strain, strain * np.eye(3), atol=1e-15)
    assert 0.004 < strain < 0.012
    copy = stretched(copper, strain)
    forces = np.array([_label(cell)[0] for cell in finite_displacements(copy, 0.01)])
    direct = with_force_constants(copy, forces, 0.01).force_constants
    assert np.abs(warm.force_constants - direct).max() < 1e-3 * np.abs(direct).max()


def test_a_cell_beyond_the_strains_gets_a_sentence(copper: System, members: list[tuple[System, float]]) -> None:
    few = [member for member, strain in zip(members, STRAINS, strict=True) if strain < 0.025]
    with pytest.raises(InputError, match=r"enclose the cell of least free energy at 2000 K .* add larger strains"):
        expanding_crystal(copper, few).cell(2000.0)


def test_table_and_picture(crystal: ExpandingCrystal, tmp_path: Path) -> None:
    write_expansion(crystal, [0.0, 300.0, 5000.0], tmp_path / "table.csv")
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert len(rows) == 3  # heading, and the two temperatures that the strains enclose
    assert float(rows[2].split(",")[3]) == pytest.approx(expansion_coefficient(crystal, 300.0))
    assert 1.5e-5 < expansion_coefficient(crystal, 300.0) < 2.5e-5
    plot_expansion({"Cu": crystal}, [100.0, 300.0], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_classical_crystals_have_a_table_and_a_picture_too(
    copper: System, members: list[tuple[System, float]], tmp_path: Path
) -> None:
    classical = expanding_crystal(copper, members, "classical")
    write_expansion(classical, [0.0, 300.0], tmp_path / "table.csv")
    rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()[1:]]
    assert [float(row[0]) for row in rows] == [0.0, 300.0]
    energies = classical.series.energies
    assert float(rows[0][5]) * len(copper.masses) == pytest.approx(energies.min(), abs=0.05)  # no zero-point energy
    plot_expansion({"Cu": classical}, [100.0, 300.0], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_a_stretched_crystal_comes_back_from_its_file(
    copper: System, members: list[tuple[System, float]], tmp_path: Path
) -> None:
    write_phonopy(members[0][0], tmp_path / "warm.yaml")
    found = read_stretched(copper, tmp_path / "warm.yaml")
    np.testing.assert_allclose(found.supercell.cell, copper.supercell.cell * 1.02, atol=1e-10)
    np.testing.assert_allclose(found.force_constants, members[0][0].force_constants, atol=1e-6)
    flat = copper.supercell.cell * [1, 1, 1.05]
    cell = dataclasses.replace(copper.supercell, cell=flat, positions=copper.supercell.positions * [1, 1, 1.05])
    unit = dataclasses.replace(
        copper.unit_cell,
        cell=copper.unit_cell.cell * [1, 1, 1.05],
        positions=copper.unit_cell.positions * [1, 1, 1.05],
    )
    other = dataclasses.replace(members[0][0], supercell=cell, unit_cell=unit)
    write_phonopy(other, tmp_path / "flat.yaml")
    with pytest.raises(InputError, match="all lengths stretched alike but got another shape"):
        read_stretched(copper, tmp_path / "flat.yaml")


def test_a_free_shape_of_a_cubic_crystal_is_the_kept_one(
    copper: System, members: list[tuple[System, float]], crystal: ExpandingCrystal
) -> None:
    basis = free_shapes(copper)
    assert len(basis) == 0
    free, kept = expanding_crystal(copper, members, "quantum", basis).cell(300.0), crystal.cell(300.0)
    np.testing.assert_array_equal(free.strain, kept.strain)
    np.testing.assert_array_equal(free.force_constants, kept.force_constants)
    assert free.shift is None
