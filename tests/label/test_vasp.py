"""VASP without VASP: its format from a file written after the documentation, and a stand-in for the program."""

from pathlib import Path

import numpy as np
import pytest

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import label_of
from activeph.label.vasp import VaspLabeler
from activeph.label.vasp_xml import read_vasprun
from activeph.records import Configuration

DOCUMENTED = Path(__file__).parent / "data" / "written-from-documentation" / "vasprun.xml"
CELL = 3.3875 * (1 - np.eye(3))
BROMIDE = Configuration(np.array([35, 19]), np.array([[0.5, 0.5, 0.51], [0, 0, 0]]) @ CELL, CELL)


def test_the_documented_format() -> None:
    configuration, answer = read_vasprun(DOCUMENTED)
    np.testing.assert_array_equal(configuration.numbers, [35, 19])
    np.testing.assert_allclose(configuration.positions, BROMIDE.positions)
    label = label_of(configuration, answer, {})
    assert label.energy == -7.25
    np.testing.assert_allclose(label.stress, -np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]) / 160.21766208, rtol=1e-8)
    assert (label.valence_band_maximum, label.conduction_band_minimum) == (-1.0, 3.5)
    assert (label.band_gap, label.direct_band_gap) == (4.5, 5.0)
    np.testing.assert_array_equal(label.occupations, [[[2, 2, 0], [2, 2, 0]]])
    assert label.provenance["k_point_weights"] == [0.25, 0.75]
    assert (answer.code_version, answer.scf_iterations) == ("6.4.2", 2)


def test_under_pressure_the_energy_is_no_enthalpy(tmp_path: Path) -> None:
    """VASP adds PV to this one energy of the file where PSTRESS (kB) is set; forces and stress know nothing of it."""
    steps = '<i type="int" name="NELM">   100</i>'
    text = DOCUMENTED.read_text()
    assert steps in text
    (tmp_path / "vasprun.xml").write_text(text.replace(steps, f'{steps}<i name="PSTRESS">  100.0</i>'))
    energy = read_vasprun(tmp_path / "vasprun.xml")[1].energy
    assert energy == pytest.approx(-7.25 - abs(np.linalg.det(CELL)) * 10 / 160.21766208)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ('"NELM">   100', '"NELM">   2', "unconverged"),
        ("</modeling>", "", "crashed"),
        ('name="forces"', 'name="velocities"', "crashed"),
        ("eigenvalues>", "dos>", "crashed"),
    ],
)
def test_what_is_no_answer(tmp_path: Path, old: str, new: str, kind: str) -> None:
    text = DOCUMENTED.read_text()
    assert old in text
    (tmp_path / "vasprun.xml").write_text(text.replace(old, new))
    with pytest.raises(LabelFailed) as caught:
        read_vasprun(tmp_path / "vasprun.xml")
    assert caught.value.kind == kind


@pytest.fixture
def labeler(tmp_path: Path) -> VaspLabeler:
    """Give a labeler whose program puts the documented file in place, atoms in the order of its POSCAR."""
    text = DOCUMENTED.read_text()
    bromine, potassium = "<rc><c>Br</c><c>   1</c></rc>", "<rc><c>K </c><c>   2</c></rc>"
    text = text.replace(bromine, "X").replace(potassium, bromine).replace("X", potassium)
    (tmp_path / "answer.xml").write_text(text)
    program = tmp_path / "stand-in"
    program.write_text(f"#!/bin/bash\ncp {tmp_path}/answer.xml vasprun.xml\ntouch WAVECAR CHGCAR OUTCAR\n")
    program.chmod(0o755)
    for name in ("K_sv", "Br"):
        (tmp_path / "potentials" / name).mkdir(parents=True)
        (tmp_path / "potentials" / name / "POTCAR").write_text(f"potential {name}\n")
    return VaspLabeler(
        command=str(program),
        potentials=tmp_path / "potentials",
        potential_of={"K": "K_sv", "Br": "Br"},
        kpts=(2, 1, 1),
        ladder=(),
    )


def test_a_calculation_from_input_to_label(labeler: VaspLabeler, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    workdir.mkdir()
    labeler.check(BROMIDE)
    label = labeler.label(BROMIDE, workdir)
    np.testing.assert_allclose(label.forces, [[-0.1, 0.2, -0.3], [0.1, -0.2, 0.3]])  # VASP had potassium first
    assert sorted(path.name for path in workdir.iterdir()) == [
        *("INCAR", "KPOINTS", "OUTCAR", "POSCAR", "output.txt", "vasprun.xml")
    ]
    assert (workdir / "POSCAR").read_text().splitlines()[5:7] == ["K Br", "1 1"]
    assert "2 1 1" in (workdir / "KPOINTS").read_text()
    tags = dict(line.split(" = ") for line in (workdir / "INCAR").read_text().splitlines())
    assert tags["ISMEAR"] == "-1"
    assert tags["LWAVE"] == ".FALSE."
    assert label.provenance["code"] == "vasp"


def test_missing_potentials_are_named(labeler: VaspLabeler) -> None:
    with pytest.raises(InputError, match="potential_of must name a potential for every element but got none for S"):
        labeler.check(Configuration(np.array([16]), np.zeros((1, 3)), CELL))
    absent = labeler.model_copy(update={"potential_of": {"K": "K_pv", "Br": "Br"}})
    with pytest.raises(InputError, match="must hold a POTCAR for every element but got none for K"):
        absent.check(BROMIDE)


def test_potentials_and_program_are_in_the_fingerprint(labeler: VaspLabeler, tmp_path: Path) -> None:
    before = labeler.fingerprint
    (tmp_path / "potentials" / "Br" / "POTCAR").write_text("a newer one\n")
    assert labeler.fingerprint != before
