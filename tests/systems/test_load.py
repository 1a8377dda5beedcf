from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import spglib

from activeph.errors import InputError
from activeph.systems import load_system
from activeph.systems.load import phonopy_of


@pytest.fixture
def potassium_bromide(tmp_path: Path) -> Path:
    a = 6.775
    cell = np.array([[0, a, a], [a, 0, a], [a, a, 0]]) / 2
    path = tmp_path / "KBr.extxyz"
    ase.io.write(path, ase.Atoms("KBr", [[0, 0, 0], [a / 2] * 3], cell=cell, pbc=True))
    return path


def test_a_supercell_in_the_order_of_phonopy(potassium_bromide: Path) -> None:
    system = load_system("KBr", potassium_bromide, [2, 2, 2])
    assert system.supercell.numbers.tolist() == [19] * 8 + [35] * 8
    assert system.primitive_atoms.tolist() == [0, 8]
    assert system.force_constants is None
    np.testing.assert_allclose(system.supercell.cell, 2 * system.unit_cell.cell)
    np.testing.assert_allclose(system.masses[[0, 8]], [39.0983, 79.904], rtol=1e-4)


def test_isotopes(potassium_bromide: Path) -> None:
    system = load_system("KBr", potassium_bromide, [1, 1, 1], masses={"Br": 81.0})
    assert system.masses[1] == 81.0
    with pytest.raises(InputError, match="^masses must name elements of the crystal but got Cl; it has Br, K"):
        load_system("KBr", potassium_bromide, [1, 1, 1], masses={"Cl": 35.0})


def test_elements_without_standard_mass_need_one(tmp_path: Path) -> None:
    path = tmp_path / "PoO2.vasp"
    path.write_text("PoO2\n5.6\n0 .5 .5\n.5 0 .5\n.5 .5 0\nPo O\n1 2\nDirect\n0 0 0\n.25 .25 .25\n.75 .75 .75\n")
    with pytest.raises(InputError, match=r"^masses of the system must have Po, .* such as `masses: \{Po: 208\.982\}`$"):
        load_system("PoO2", path, [1, 1, 1])
    system = load_system("PoO2", path, [1, 1, 1], masses={"Po": 209.98})
    np.testing.assert_allclose(phonopy_of(system).unitcell.masses, [209.98, 15.9994, 15.9994])


def test_a_supercell_matrix_with_shear(potassium_bromide: Path) -> None:
    cubic = load_system("KBr", potassium_bromide, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    assert len(cubic.supercell.numbers) == 8
    np.testing.assert_allclose(cubic.supercell.cell, np.eye(3) * 6.775, atol=1e-9)


def test_rounded_coordinates_get_their_symmetry_back(tmp_path: Path) -> None:
    cell = [[3.25, 0, 0], [-1.625, 2.8146, 0], [0, 0, 5.2]]  # 2.81458... rounded
    fractions = [[0.3333, 0.6667, 0], [0.6667, 0.3333, 0.5], [0.3333, 0.6667, 0.38], [0.6667, 0.3333, 0.88]]
    path = tmp_path / "ZnO.vasp"
    ase.io.write(path, ase.Atoms("Zn2O2", scaled_positions=fractions, cell=cell, pbc=True))
    system = load_system("ZnO", path, [1, 1, 1])
    cell = system.unit_cell
    crystal = (cell.cell, cell.positions @ np.linalg.inv(cell.cell), cell.numbers)
    assert spglib.get_spacegroup(crystal, symprec=1e-7) == "P6_3mc (186)"
    moved = (crystal[1] - fractions) @ cell.cell
    assert np.abs(moved).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.cif", None, "structure must be an existing file but got"),
        ("empty.cif", "", "structure must hold data but got the empty file"),
        ("nonsense.cif", "hello", "structure must be a file that ASE reads but got"),
        ("nonsense.xyz", "1\n\nXx", "structure must be a file that ASE reads but got"),
        (
            "left.vasp",
            "left\n1\n0 4 0\n4 0 0\n0 0 4\nCs Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n",
            "must have right-handed lattice vectors but got .* exchange two of them",
        ),
        ("molecule.xyz", "2\n\nH 0 0 0\nH 0 0 0.74\n", "must have a cell with three lattice vectors but got"),
    ],
)
def test_wrong_files_get_a_sentence(tmp_path: Path, name: str, content: str | None, sentence: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_system("X", path, [2, 2, 2])
    with pytest.raises(InputError, match="must be a file but got the folder"):
        load_system("X", tmp_path, [2, 2, 2])


@pytest.mark.parametrize("supercell", [[2, 2], [2, 0, 2], [2.0, 2.0, 2.0], [[1, 0, 0]] * 3, [-1, 1, 1], "222"])
def test_wrong_supercells_get_a_sentence(potassium_bromide: Path, supercell: object) -> None:
    with pytest.raises(InputError, match="supercell must be three positive integers or a 3x3 integer matrix"):
        load_system("KBr", potassium_bromide, supercell)


def test_one_atom_is_no_supercell(tmp_path: Path) -> None:
    path = tmp_path / "Cu.extxyz"
    ase.io.write(path, ase.Atoms("Cu", cell=np.eye(3) * 2.5, pbc=True))
    with pytest.raises(InputError, match=r"must have at least 2 atoms but got 1; raise `supercell`"):
        load_system("Cu", path, [1, 1, 1])


def test_coinciding_atoms_get_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "Cu.extxyz"
    ase.io.write(path, ase.Atoms("Cu2", [[0, 0, 0], [0, 0, 1e-9]], cell=np.eye(3) * 2.5, pbc=True))
    with pytest.raises(InputError, match="remove atoms that coincide"):
        load_system("Cu", path, [2, 2, 2])
