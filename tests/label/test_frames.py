import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from activeph.errors import InputError
from activeph.label.frames import label_of_frame, read_frames

STRESS = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]) * 1e-3
FORCES = np.arange(6.0).reshape(2, 3)


def crystal(**info: Any) -> Atoms:
    atoms = bulk("KBr", "rocksalt", 6.775)
    atoms.info |= info
    return atoms


def test_files_of_every_kind_say_the_same(tmp_path: Path) -> None:
    calculated = crystal(gap=2.0, vbm=-1.0)
    voigt = STRESS.ravel()[[0, 4, 8, 5, 2, 1]]
    calculated.calc = SinglePointCalculator(calculated, energy=-3.5, forces=FORCES, stress=voigt)
    reference = crystal(REF_energy=-3.5, REF_stress=STRESS, REF_band_gap=2.0, REF_vbm=-1.0)
    reference.arrays["REF_forces"] = FORCES
    write(tmp_path / "calculated.extxyz", calculated)
    write(tmp_path / "reference.extxyz", reference)
    write(tmp_path / "calculated.traj", calculated)
    calculated.info = {"key_value_pairs": {"gap": 2.0, "vbm": -1.0}}
    for name in ("calculated.extxyz", "reference.extxyz", "calculated.traj"):
        (label,) = read_frames(tmp_path / name)
        assert label.energy == -3.5, name
        np.testing.assert_allclose(label.forces, FORCES)
        np.testing.assert_allclose(label.stress, voigt)
        assert (label.band_gap, label.valence_band_maximum, label.conduction_band_minimum) == (2.0, -1.0, 1.0)


def test_ase_databases(tmp_path: Path) -> None:
    from ase.db import connect

    atoms = crystal()
    atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=FORCES)
    with connect(tmp_path / "labels.db") as database:
        database.write(atoms, band_gap=2.5, vbm=-1.5)
        database.write(atoms, band_gap=3.5)
    labels = read_frames(tmp_path / "labels.db")
    assert [label.band_gap for label in labels] == [2.5, 3.5]
    assert labels[0].valence_band_maximum == -1.5
    assert math.isnan(labels[1].valence_band_maximum)


def test_reference_keys_win_over_others() -> None:
    atoms = crystal(REF_energy=-1.0, energy=-2.0, gap=1.0, REF_band_gap=3.0)
    label = label_of_frame(atoms, "here")
    assert (label.energy, label.band_gap) == (-1.0, 3.0)


def test_the_energy_is_that_of_the_forces() -> None:
    import ase.test
    from ase.io import read

    outcar = Path(ase.test.__file__).parent / "testdata" / "vasp" / "OUTCAR_example_1"
    results = read(outcar, format="vasp-out").calc.results
    assert results["free_energy"] != results["energy"]
    (label,) = read_frames(outcar)[-1:]
    assert label.energy == results["free_energy"]


def test_virials_are_stress_times_minus_volume() -> None:
    atoms = crystal(energy=-1.0, virials=STRESS)
    np.testing.assert_allclose(label_of_frame(atoms, "here").stress[3], -4e-3 / atoms.cell.volume)


def test_constraints_do_not_hide_forces() -> None:
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=FORCES)
    np.testing.assert_array_equal(label_of_frame(atoms, "here").forces, FORCES)


def test_what_is_not_told_is_unknown() -> None:
    label = label_of_frame(crystal(energy=-1.0), "here")
    assert np.isnan(label.forces).all()
    assert np.isnan(label.stress).all()
    assert math.isnan(label.band_gap)
    assert label.eigenvalues.size == 0


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must exist but got"):
        read_frames(tmp_path / "none.extxyz")
    (tmp_path / "empty.extxyz").write_text("")
    with pytest.raises(InputError, match=r"empty\.extxyz"):
        read_frames(tmp_path / "empty.extxyz")
    (tmp_path / "torn.extxyz").write_text("2\nLattice=")
    with pytest.raises(InputError, match="readable by ASE"):
        read_frames(tmp_path / "torn.extxyz")
    write(tmp_path / "bare.extxyz", [crystal(energy=-1.0), crystal()])
    with pytest.raises(InputError, match="structure 1 must carry an energy"):
        read_frames(tmp_path / "bare.extxyz")
    write(tmp_path / "molecule.extxyz", Atoms("KBr", [[0, 0, 0], [0, 0, 3]], info={"energy": 1.0}))
    with pytest.raises(InputError, match="must have a periodic cell"):
        read_frames(tmp_path / "molecule.extxyz")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    import os

    path = tmp_path / "labels.extxyz"
    write(path, crystal(energy=-1.0))
    assert read_frames(path)[0].energy == -1.0
    write(path, crystal(energy=-2.0))
    os.utime(path, ns=(1, 1))
    assert read_frames(path)[0].energy == -2.0
