"""What symmetry leaves free in crystals of every system."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.spacegroup import crystal

from activeph.records import Configuration, System
from activeph.systems.freedom import deformed, free_shapes, free_shifts
from activeph.systems.load import make_system, phonopy_of
from activeph.systems.quasi_harmonic import cell_deformation, cell_shape

CALCITE = {"spacegroup": 167, "cellpar": [4.99, 4.99, 17.06, 90, 90, 120]}
CALCITE_SITES = (["Ca", "C", "O"], [(0, 0, 0), (0, 0, 0.25), (0.257, 0, 0.25)])
ZIRCONIA = crystal(
    ["Zr", "O", "O"],
    [(0.275, 0.04, 0.208), (0.07, 0.332, 0.345), (0.45, 0.757, 0.479)],
    spacegroup=14,
    cellpar=[5.15, 5.21, 5.32, 90, 99.2, 90],
)
CASES = {  # crystal, supercell, changes of shape, free displacements
    "copper": (bulk("Cu"), [[-1, 1, 1], [1, -1, 1], [1, 1, -1]], 0, 0),
    "pyrite": (crystal(["Fe", "S"], [(0, 0, 0), (0.385,) * 3], spacegroup=205, cellpar=[5.42] * 3 + [90] * 3), [1] * 3,
               0, 1),
    "wurtzite": (bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382), [2, 2, 1], 1, 1),
    "rutile": (crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136,
                       cellpar=[4.6, 4.6, 2.96, 90, 90, 90]), [1, 1, 2], 1, 1),
    "calcite": (crystal(*CALCITE_SITES, **CALCITE), [1, 1, 1], 1, 1),
    "calcite, rhombohedral": (crystal(*CALCITE_SITES, **CALCITE, primitive_cell=True), [2, 1, 1], 1, 1),
    "zirconia": (ZIRCONIA, [1, 1, 1], 3, 9),
    "triclinic": (ase.Atoms("KBrI", scaled_positions=[(0, 0, 0), (0.45, 0.52, 0.47), (0.2, 0.7, 0.1)],
                            cell=[[6, 0, 0], [0.5, 5.5, 0], [0.3, 0.8, 6.2]], pbc=True), [2, 1, 1], 5, 6),
}  # fmt: skip


def _system(name: str) -> System:
    atoms, supercell = CASES[name][:2]
    return make_system(name, Configuration(np.array(atoms.numbers), atoms.positions, atoms.cell.array), supercell)


def _group(cell: Configuration) -> str:
    return str(
        spglib.get_spacegroup((cell.cell, cell.positions @ np.linalg.inv(cell.cell), cell.numbers), symprec=1e-4)
    )


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_keeps_the_space_group(name: str) -> None:
    system = _system(name)
    shapes, shifts = free_shapes(system), free_shifts(system)
    assert (len(shapes), len(shifts)) == CASES[name][2:]
    np.testing.assert_allclose(np.einsum("kij,lij->kl", shapes, shapes), np.eye(len(shapes)), atol=1e-12)
    np.testing.assert_allclose(np.einsum("kii->k", shapes), 0, atol=1e-12)
    np.testing.assert_allclose(shifts.sum(axis=1), 0, atol=1e-12)
    amounts = 0.02 * np.arange(1, 1 + len(shapes)) / max(len(shapes), 1)
    shift = np.einsum("d,dax->ax", 0.05 * np.linspace(1, 2, len(shifts)), shifts)
    copy = deformed(system, cell_deformation(shapes, 0.01, amounts), shift)
    assert _group(copy.unit_cell) == _group(system.unit_cell)
    assert _group(copy.supercell) == _group(system.supercell)
    again = phonopy_of(copy).supercell  # unit cell and supercell were moved alike
    apart = (again.positions - copy.supercell.positions) @ np.linalg.inv(copy.supercell.cell)
    assert np.abs(apart - np.rint(apart)).max() < 1e-12


def test_shapes_and_deformations_are_inverse_to_each_other() -> None:
    shapes = free_shapes(_system("zirconia"))
    amounts = np.array([0.02, -0.01, 0.03])
    deformation = cell_deformation(shapes, 0.015, amounts)
    np.testing.assert_allclose(cell_shape(shapes, deformation), amounts, atol=1e-14)
    assert np.linalg.det(deformation) == pytest.approx(1.015**3, rel=1e-13)


def test_the_axis_of_a_turned_crystal_is_found() -> None:
    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382)
    atoms.rotate(40, (1, 2, 0.5), rotate_cell=True)
    system = make_system("x", Configuration(np.array(atoms.numbers), atoms.positions, atoms.cell.array), [1, 1, 1])
    (shape,) = free_shapes(system)
    axis = atoms.cell.array[2] / np.linalg.norm(atoms.cell.array[2])
    np.testing.assert_allclose(np.abs(shape), np.abs((3 * np.outer(axis, axis) - np.eye(3)) / np.sqrt(6)), atol=1e-10)
