"""Force constants through phonopy's files and from forces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.lattice import primitive_lattice
from activeph.phonons.modes import harmonic_modes, normal_modes
from activeph.phonons.transfer import transferred
from activeph.records import System
from activeph.systems import (
    examined_force_constants,
    finite_displacements,
    load_system,
    with_force_constants,
    write_phonopy,
)
from activeph.systems.load import make_system, phonopy_atoms, phonopy_of

Builder = Callable[..., System]
NAMES = ["perovskite", "rocksalt", "wurtzite", "triclinic", "slab", "chain"]


def _structure(system: System, folder: Path) -> Path:
    cell = system.unit_cell
    path = folder / "structure.extxyz"
    ase.io.write(path, ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True))
    return path


def _same(system: System, path: Path, folder: Path) -> None:
    read = load_system("read", _structure(system, folder), system.supercell_matrix.tolist(), path)
    scale = np.abs(system.force_constants).max()
    np.testing.assert_allclose(read.force_constants, system.force_constants, atol=2e-6 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_phonopy_yaml_round_trip(crystal: Builder, tmp_path: Path, name: str) -> None:
    import phonopy

    system = crystal(name)
    path = tmp_path / "phonopy_params.yaml"
    write_phonopy(system, path)
    _same(system, path, tmp_path)
    theirs = phonopy.load(path, log_level=0)
    q = [[0.1, 0.2, 0.3], [0.5, 0, 0]]
    theirs.run_qpoints(q)
    ours = phonopy_of(system)
    ours.run_qpoints(q)
    np.testing.assert_allclose(theirs.qpoints.frequencies, ours.qpoints.frequencies, atol=1e-5)
    assert not list(tmp_path.glob(".phonopy*"))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", ["FORCE_CONSTANTS", "force_constants.hdf5"])
def test_force_constant_files(crystal: Builder, tmp_path: Path, kind: str, full: bool) -> None:
    from phonopy.file_IO import write_FORCE_CONSTANTS, write_force_constants_to_hdf5

    from activeph.phonons.fit import full_force_constants

    system = crystal("wurtzite")
    constants = full_force_constants(system, system.force_constants) if full else system.force_constants
    p2s = None if full else system.primitive_atoms
    path = tmp_path / kind
    if kind == "FORCE_CONSTANTS":
        write_FORCE_CONSTANTS(constants, path, p2s_map=p2s)
    else:
        write_force_constants_to_hdf5(constants, path, p2s_map=p2s)
    _same(system, path, tmp_path)


@pytest.mark.parametrize("snapshots", [None, 12])
def test_force_sets(crystal: Builder, tmp_path: Path, snapshots: int | None) -> None:
    from phonopy.file_IO import write_FORCE_SETS

    system = crystal("perovskite")
    phonon = phonopy_of(dataclasses.replace(system, force_constants=None))
    if snapshots:
        phonon.generate_displacements(distance=0.03, number_of_snapshots=snapshots, random_seed=1)
    else:
        phonon.generate_displacements(distance=0.03)
    phonon.forces = _spring_forces(system, [cell.positions for cell in phonon.supercells_with_displacements])
    write_FORCE_SETS(phonon.dataset, tmp_path / "FORCE_SETS")
    _same(system, tmp_path / "FORCE_SETS", tmp_path)
    phonon.save(tmp_path / "with_forces.yaml")
    _same(system, tmp_path / "with_forces.yaml", tmp_path)


def test_units_of_other_codes(crystal: Builder, tmp_path: Path) -> None:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    bohr, rydberg = 0.529177210903, 13.605693122994
    system = crystal("perovskite")
    cell = PhonopyAtoms(
        numbers=system.unit_cell.numbers.tolist(),
        cell=system.unit_cell.cell / bohr,
        positions=system.unit_cell.positions / bohr,
    )
    phonon = Phonopy(cell, system.supercell_matrix, primitive_matrix=system.primitive_matrix, calculator="qe")
    phonon.force_constants = system.force_constants * bohr**2 / rydberg
    path = tmp_path / "phonopy_params.yaml"
    phonon.save(path, settings={"force_constants": True})
    _same(system, path, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_finite_displacements_recover_the_springs(crystal: Builder, name: str) -> None:
    system = crystal(name)
    bare = dataclasses.replace(system, force_constants=None)
    cells = finite_displacements(bare)
    assert np.array_equal(cells[0].positions, system.supercell.positions)
    residual = np.random.default_rng(0).normal(size=system.supercell.positions.shape) * 0.01  # a structure not relaxed
    forces = _spring_forces(system, [cell.positions for cell in cells]) + residual
    found = with_force_constants(bare, forces)
    scale = np.abs(system.force_constants).max()
    np.testing.assert_allclose(found.force_constants, system.force_constants, atol=1e-6 * scale)
    np.testing.assert_allclose(found.force_constants.sum(axis=1), 0, atol=1e-9 * scale)


def test_wrong_forces_and_distances_get_a_sentence(crystal: Builder) -> None:
    bare = dataclasses.replace(crystal("perovskite"), force_constants=None)
    n = len(finite_displacements(bare))
    with pytest.raises(InputError, match=rf"must be of shape \({n}, 40, 3\) but got \({n - 1}, 40, 3\)"):
        with_force_constants(bare, np.zeros((n - 1, 40, 3)))
    with pytest.raises(InputError, match="must be made of finite forces but got labels without; take a labeler"):
        with_force_constants(bare, np.full((n, 40, 3), np.nan))
    for distance in (0.0, -0.01, 0.5, float("nan")):
        with pytest.raises(InputError, match="distance must be above 0 and at most 0.3 Å"):
            finite_displacements(bare, distance)


@pytest.mark.parametrize("name", ["perovskite", "wurtzite", "triclinic"])
def test_other_supercells_fold_and_interpolate_exactly_within_the_range(crystal: Builder, name: str) -> None:
    short = {"cutoff": 3.0}  # Å, well inside half of every supercell used
    small = crystal(name, [2, 2, 2] if name != "wurtzite" else [3, 3, 2], **short)
    large = crystal(name, [4, 3, 3], **short)
    scale = np.abs(small.force_constants).max()
    for source, target in ((large, small), (small, large), (small, small)):
        found = transferred(source, target)
        np.testing.assert_allclose(found, target.force_constants, atol=1e-9 * scale)


@pytest.mark.parametrize("matrix", [None, [[2, 0, 0], [4, 2, 0], [2, 4, 2]]])
def test_interpolation_equals_that_of_phonopy(crystal: Builder, matrix: list[list[int]] | None) -> None:
    """4.5 Å springs in a 7.8 Å cell, given upright or by oblique vectors: range truncated, images shared."""
    source = crystal("perovskite", matrix)
    target = crystal("perovskite", [3, 3, 3])
    phonon = phonopy_of(source).ph2ph(np.diag([3, 3, 3]))
    theirs = phonon.force_constants
    theirs = theirs if len(theirs) == len(target.primitive_atoms) else theirs[target.primitive_atoms]
    np.testing.assert_allclose(transferred(source, target), theirs, atol=1e-8)


@pytest.mark.parametrize("distortion", [0.0, 0.05])
def test_a_file_may_call_a_conventional_cell_primitive(crystal: Builder, tmp_path: Path, distortion: float) -> None:
    from phonopy import Phonopy

    from activeph.phonons.fit import full_force_constants

    system = crystal("rocksalt", [2, 1, 1], cutoff=4.0)
    cell = system.unit_cell.positions.copy()
    cell[0, 0] += distortion
    theirs = phonopy_atoms(dataclasses.replace(system.unit_cell, positions=cell))
    phonon = Phonopy(theirs, system.supercell_matrix, primitive_matrix=np.eye(3))
    phonon.force_constants = full_force_constants(system, system.force_constants)
    phonon.nac_params = {"born": [np.eye(3)] * 4 + [-np.eye(3)] * 4, "dielectric": 2.4 * np.eye(3), "factor": 14.4}
    assert len(phonon.primitive) == 8
    phonon.save(tmp_path / "phonopy.yaml", settings={"force_constants": True})
    structure = _structure(system, tmp_path)
    if distortion:
        with pytest.raises(InputError, match="must belong to the same atoms but got other positions"):
            load_system("x", structure, [2, 1, 1], tmp_path / "phonopy.yaml")
        return
    _same(system, tmp_path / "phonopy.yaml", tmp_path)
    found = load_system("x", structure, [2, 1, 1], tmp_path / "phonopy.yaml")
    np.testing.assert_allclose(found.born_charges, [np.eye(3), -np.eye(3)], atol=1e-6)


def test_another_origin_and_another_choice_of_cell(crystal: Builder) -> None:
    conventional = crystal("rocksalt", [1, 1, 1], cutoff=4.0)
    primitive = conventional.primitive_matrix.T @ conventional.unit_cell.cell
    atoms = dataclasses.replace(
        conventional.unit_cell,
        numbers=np.array([11, 17]),
        positions=np.array([[0.3, 0.1, 0.2], [3.1, 0.1, 0.2]]),
        cell=primitive,
    )
    other = make_system("shifted", atoms, [2, 2, 2])
    found = dataclasses.replace(other, force_constants=transferred(conventional, other))
    np.testing.assert_allclose(found.force_constants.sum(axis=1), 0, atol=1e-9)
    full = normal_modes(dataclasses.replace(other, force_constants=transferred(conventional, other))).frequencies
    np.testing.assert_allclose(
        np.unique(np.round(full, 5)), np.unique(np.round(_springs_like(other, conventional), 5)), atol=2e-5
    )


def test_born_charges_follow_the_atoms(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("rocksalt")
    born = np.array([np.eye(3), -np.eye(3)])
    polar = dataclasses.replace(system, born_charges=born, dielectric=2.4 * np.eye(3))
    write_phonopy(polar, tmp_path / "phonopy_params.yaml")
    structure = _structure(system, tmp_path)
    same = load_system("same", structure, [1, 1, 1], tmp_path / "phonopy_params.yaml")
    np.testing.assert_allclose(same.born_charges, born, atol=1e-9)
    np.testing.assert_allclose(same.force_constants, system.force_constants, atol=1e-7)
    larger = load_system("larger", structure, [2, 2, 2], tmp_path / "phonopy_params.yaml")
    reference = phonopy_of(polar).ph2ph(np.diag([2, 2, 2]), with_nac=True).force_constants
    reference = reference if len(reference) == 2 else reference[larger.primitive_atoms]
    np.testing.assert_allclose(larger.force_constants, reference, atol=1e-6)
    plain = transferred(system, dataclasses.replace(larger, force_constants=None))
    assert np.abs(plain - larger.force_constants).max() > 1e-3  # the dipole-dipole part matters


@pytest.mark.parametrize("conventional", [True, False])
def test_dipoles_are_apart_in_every_shape_of_supercell(crystal: Builder, tmp_path: Path, conventional: bool) -> None:
    """As many atoms as the source has, in another shape; a supercell that the source's unit cell does not divide."""
    source = crystal("rocksalt", [2, 1, 1], cutoff=4.0)
    polar = dataclasses.replace(source, born_charges=np.array([np.eye(3), -np.eye(3)]), dielectric=2.4 * np.eye(3))
    write_phonopy(polar, tmp_path / "phonopy_params.yaml")
    structure = _structure(source, tmp_path)
    if not conventional:
        cell = source.primitive_matrix.T @ source.unit_cell.cell
        ase.io.write(structure, ase.Atoms("NaCl", [[0, 0, 0], cell.sum(axis=0) / 2], cell=cell, pbc=True))
    found = load_system("x", structure, [1, 2, 1] if conventional else [2, 2, 2], tmp_path / "phonopy_params.yaml")
    assert len(found.masses) == len(source.masses)
    phonon = phonopy_of(polar)
    for block in harmonic_modes(found).blocks[1:]:
        waves = np.linalg.inv(primitive_lattice(found).primitive_cell) @ block.q_point
        phonon.run_qpoints([phonon.primitive.cell @ waves])
        expected = np.repeat(phonon.qpoints.frequencies[0], len(block.columns))
        np.testing.assert_allclose(np.sort(block.frequencies), np.sort(expected), atol=1e-4)


def test_born_charges_from_a_file_beside_the_forces(crystal: Builder, tmp_path: Path) -> None:
    from phonopy.file_IO import write_BORN, write_FORCE_CONSTANTS

    system = crystal("rocksalt")
    primitive = phonopy_of(system).primitive
    born = np.array([1.2 * np.eye(3), -1.2 * np.eye(3)])
    write_BORN(primitive, born, 2.4 * np.eye(3), filename=tmp_path / "BORN")
    path = tmp_path / "FORCE_CONSTANTS"
    write_FORCE_CONSTANTS(system.force_constants, path, p2s_map=system.primitive_atoms)
    read, report = examined_force_constants(dataclasses.replace(system, force_constants=None), path)
    assert report.polar
    np.testing.assert_allclose(read.born_charges, born, atol=1e-6)
    np.testing.assert_allclose(read.dielectric, 2.4 * np.eye(3), atol=1e-6)
    torn = (tmp_path / "BORN").read_text().splitlines()[:1]
    (tmp_path / "BORN").write_text("\n".join([*torn, "2.4 0 0"]))
    with pytest.raises(InputError, match="BORN must hold Born charges .* but got .*BORN .*; write it again"):
        examined_force_constants(dataclasses.replace(system, force_constants=None), path)


def test_other_crystals_get_the_reason(crystal: Builder, tmp_path: Path) -> None:
    write_phonopy(crystal("perovskite"), tmp_path / "phonopy_params.yaml")
    other = crystal("perovskite").unit_cell
    cases = {
        "same primitive lattice": dataclasses.replace(other, cell=other.cell * 1.3, positions=other.positions * 1.3),
        "strained by 1.5%": dataclasses.replace(other, cell=other.cell * 1.015, positions=other.positions * 1.015),
        "SrTiO3 instead of|O3SrTi instead of": dataclasses.replace(other, numbers=np.array([56, 22, 8, 8, 8])),
    }
    for sentence, cell in cases.items():
        path = _structure(dataclasses.replace(crystal("perovskite"), unit_cell=cell), tmp_path)
        with pytest.raises(InputError, match=sentence):
            load_system("other", path, [2, 2, 2], tmp_path / "phonopy_params.yaml")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "force_constants must be an existing file but got"),
        ("", "must hold data but got the empty file"),
        ("hello world", "must be a phonopy file for this supercell but got"),
        ("phonopy:\n  version: 4\n", "must be a phonopy file"),
        ("40\n2\n\n1\n0.01 0 0\n0 0 0\n", r"must be a phonopy file for this supercell but got .*\(it ends too early\)"),
        ("3 3\n1 1\n" + "1 0 0\n0 1 0\n0 0 1\n", "must be a phonopy file for this supercell but got"),
    ],
)
def test_wrong_force_constant_files_get_a_sentence(
    crystal: Builder, tmp_path: Path, content: str | None, sentence: str
) -> None:
    path = tmp_path / "FC"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_system("x", _structure(crystal("perovskite"), tmp_path), [2, 2, 2], path)


@pytest.mark.parametrize(("value", "sentence"), [(np.nan, "got nan or inf"), (0.0, "got zeros alone")])
def test_force_constants_that_are_no_numbers_are_refused(
    crystal: Builder, tmp_path: Path, value: float, sentence: str
) -> None:
    from phonopy.file_IO import write_FORCE_CONSTANTS

    system = crystal("rocksalt")
    spoiled = np.full_like(system.force_constants, value)
    write_FORCE_CONSTANTS(spoiled, tmp_path / "FORCE_CONSTANTS", p2s_map=system.primitive_atoms)
    with pytest.raises(InputError, match=f"must be finite and not all zero but {sentence}"):
        load_system("x", _structure(system, tmp_path), system.supercell_matrix, tmp_path / "FORCE_CONSTANTS")


def test_force_constants_of_another_supercell_without_its_yaml_are_refused(crystal: Builder, tmp_path: Path) -> None:
    from phonopy.file_IO import write_FORCE_CONSTANTS

    small, large = crystal("perovskite"), crystal("perovskite", [3, 3, 3])
    path = tmp_path / "FORCE_CONSTANTS"
    write_FORCE_CONSTANTS(small.force_constants, path, p2s_map=small.primitive_atoms)
    structure = _structure(small, tmp_path)
    with pytest.raises(InputError, match="put the phonopy.yaml of their calculation beside them|for this supercell"):
        load_system("x", structure, [3, 3, 3], path)
    phonopy_of(dataclasses.replace(small, force_constants=None)).save(tmp_path / "phonopy.yaml")
    found = load_system("x", structure, [3, 3, 3], path)
    np.testing.assert_allclose(found.force_constants, transferred(small, large), atol=1e-6)


def test_what_force_constants_miss_is_measured_and_imposed(crystal: Builder, tmp_path: Path) -> None:
    from phonopy.file_IO import write_FORCE_CONSTANTS

    system = crystal("perovskite")
    spoiled = system.force_constants.copy()
    largest = np.abs(spoiled).max()
    spoiled[0, 0, 0, 0] += 0.05 * largest  # breaks the sum rule and the cubic site
    spoiled[0, 9, 0, 1] += 0.03 * largest  # breaks the order of atoms too
    write_FORCE_CONSTANTS(spoiled, tmp_path / "FORCE_CONSTANTS", p2s_map=system.primitive_atoms)
    bare = dataclasses.replace(system, force_constants=None)
    found, report = examined_force_constants(bare, tmp_path / "FORCE_CONSTANTS")
    largest_read = np.abs(spoiled).max()
    assert report.sum_rule == pytest.approx(0.05 * largest / largest_read, rel=1e-3)
    assert report.permutation == pytest.approx(0.03 * largest / largest_read, rel=1e-3)
    assert 0.001 < report.space_group < 0.05
    assert (report.atoms, report.transfer, report.polar) == (40, "same", False)
    assert f"miss the acoustic sum rule by {report.sum_rule:.1%}" in str(report)
    assert str(report).endswith(
        "taken as eV and Å for this supercell, as no phonopy.yaml of their calculation lies beside"
    )
    assert np.abs(found.force_constants.sum(axis=1)).max() < 1e-3 * largest
    write_phonopy(system, tmp_path / "phonopy_params.yaml")
    clean = examined_force_constants(bare, tmp_path / "phonopy_params.yaml")[1]
    assert max(clean.sum_rule, clean.permutation, clean.space_group) < 1e-6
    assert clean.stated
    assert "taken as" not in str(clean)


def test_masses_of_the_file_that_are_not_used_are_told(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    heavy = dataclasses.replace(system, masses=np.where(system.supercell.numbers == 8, 18.0, system.masses))
    write_phonopy(heavy, tmp_path / "phonopy_params.yaml")
    for used, words in ((system, "set `masses` of the system to {O: 18}"), (heavy, "")):
        found, report = examined_force_constants(used, tmp_path / "phonopy_params.yaml")
        np.testing.assert_array_equal(found.masses, used.masses)
        assert str(report).endswith(words)
        assert ("masses" in str(report)) == bool(words)


@pytest.mark.parametrize(("repeats", "word"), [([4, 2, 2], "folded"), ([2, 2, 1], "interpolated"), ([2, 2, 2], "same")])
def test_the_relation_of_supercells_is_named(crystal: Builder, tmp_path: Path, repeats: list[int], word: str) -> None:
    write_phonopy(crystal("perovskite", repeats), tmp_path / "phonopy_params.yaml")
    bare = dataclasses.replace(crystal("perovskite"), force_constants=None)
    assert examined_force_constants(bare, tmp_path / "phonopy_params.yaml")[1].transfer == word


def _spring_forces(system: System, positions: list[np.ndarray]) -> np.ndarray:
    from activeph.phonons.fit import full_force_constants

    u = np.array(positions) - system.supercell.positions
    return -np.einsum("ijxy,bjy->bix", full_force_constants(system, system.force_constants), u)


def _springs_like(system: System, springs: System) -> np.ndarray:
    """Frequencies of ``system`` from force constants interpolated by phonopy out of ``springs``."""
    matrix = np.rint(np.linalg.inv(springs.unit_cell.cell).T @ system.supercell.cell.T).astype(int)
    phonon = phonopy_of(springs).ph2ph(matrix)
    from activeph.systems.load import system_of

    return normal_modes(system_of("springs", phonon)).frequencies
