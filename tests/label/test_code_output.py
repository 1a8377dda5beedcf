"""Reading what codes wrote: recorded output of displaced silicon, 2 x 2 x 2 k-points, and damaged copies of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from activeph.errors import LabelFailed
from activeph.label.answer import Answer, label_of, unweighted
from activeph.label.cp2k_output import read_cp2k
from activeph.label.espresso import valence_charge
from activeph.label.espresso_xml import read_espresso_xml
from activeph.label.kpoints import gamma_centred
from activeph.records import Configuration

DATA = Path(__file__).parent / "data"
CP2K = DATA / "cp2k-2023.1-silicon"
ESPRESSO = DATA / "espresso-6.7-silicon" / "data-file-schema.xml"
WEIGHTS = np.full(8, 0.125)


def test_cp2k() -> None:
    answer = read_cp2k(CP2K, "output.txt", WEIGHTS)
    assert answer.energy == pytest.approx(-7.776058379848318 * 27.211386, rel=1e-7)
    assert answer.forces[0, 0] == pytest.approx(-0.019417487774 * 27.211386 / 0.52917721, rel=1e-7)
    np.testing.assert_allclose(answer.stress[:3], -9.8998616 / 160.21766, rtol=1e-6)
    np.testing.assert_allclose(answer.stress[3:], -2.5196749 / 160.21766, rtol=1e-6)
    assert answer.eigenvalues.shape == (1, 8, 8)
    assert answer.eigenvalues[0, 0, 0] == pytest.approx(-6.4910572706, abs=1e-6)
    assert answer.occupations[0, 1, 3] == 2.0
    assert (answer.code_version, answer.scf_iterations) == ("2023.1", 10)


def test_espresso() -> None:
    configuration, answer = read_espresso_xml(ESPRESSO)
    np.testing.assert_array_equal(configuration.numbers, [14, 14])
    np.testing.assert_allclose(configuration.cell, 2.715 * (1 - np.eye(3)), atol=1e-6)
    np.testing.assert_allclose(configuration.positions[0], 0.05, atol=1e-6)
    assert answer.energy == pytest.approx(-15.65649646 * 13.605693, rel=1e-7)
    np.testing.assert_allclose(answer.stress[:3], -56.11 / 1602.1766, rtol=1e-3)  # P = 56.11 kbar in the log
    assert answer.eigenvalues.shape == (1, 8, 8)
    label = label_of(configuration, answer, {})
    assert label.occupations[0, 1, 0] == 2.0
    assert sum(label.provenance["k_point_weights"]) == pytest.approx(1.0)
    assert label.valence_band_maximum == pytest.approx(0.2410747608 * 27.211386, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("<convergence_achieved>true", "<convergence_achieved>false", "unconverged"),
        ("<forces", "<no_forces", "crashed"),
        ("</qes:espresso>", "", "crashed"),
        ("-7.828248230512665e0", "not a number", "crashed"),
    ],
)
def test_damaged_espresso(tmp_path: Path, old: str, new: str, kind: str) -> None:
    text = ESPRESSO.read_text()
    assert old in text
    (tmp_path / "data.xml").write_text(text.replace(old, new))
    with pytest.raises(LabelFailed) as caught:
        read_espresso_xml(tmp_path / "data.xml")
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("file", "old", "new", "kind"),
    [
        ("output.txt", "SCF run converged in", "SCF run NOT converged in", "unconverged"),
        ("output.txt", "ENERGY|", "", "crashed"),
        ("cp2k-mo-1_0.MOLog", "FOR K POINT 8", "FOR K POINT 9", "crashed"),
        ("cp2k-forces-1_0.xyz", "-0.019417487774", "***************", "crashed"),
        ("cp2k-stress-1_0.stress_tensor", "STRESS|", "", "crashed"),
    ],
)
def test_damaged_cp2k(tmp_path: Path, file: str, old: str, new: str, kind: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(CP2K, copy)
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    with pytest.raises(LabelFailed) as caught:
        read_cp2k(copy, "output.txt", WEIGHTS)
    assert caught.value.kind == kind


def test_a_label_needs_finite_numbers_of_the_right_shape() -> None:
    configuration = Configuration(np.array([14]), np.zeros((1, 3)), np.eye(3))
    bands = np.array([[[0.0, 1.0]]])

    def answer(**change: object) -> Answer:
        fields: dict[str, object] = {
            "energy": -1.0,
            "forces": np.zeros((1, 3)),
            "stress": np.zeros(6),
            "eigenvalues": bands,
            "occupations": np.array([[[2.0, 0.0]]]),
            "weights": np.ones(1),
            "code_version": "1",
            "scf_iterations": 3,
        }
        return Answer(**(fields | change))  # type: ignore[arg-type]

    assert label_of(configuration, answer(), {}).band_gap == 1.0
    for change in ({"energy": np.nan}, {"forces": np.zeros((2, 3))}, {"stress": np.full(6, np.inf)}):
        with pytest.raises(LabelFailed):
            label_of(configuration, answer(**change), {})


def test_occupations_lose_the_weight_of_their_k_point() -> None:
    weights = np.array([0.25, 0.75])
    full = np.array([[[2.0, 1.0], [2.0, 0.0]]])
    np.testing.assert_array_equal(unweighted(full, weights), full)
    np.testing.assert_allclose(unweighted(full * weights[None, :, None], weights), full)


@pytest.mark.parametrize("divisions", [(1, 1, 1), (2, 2, 2), (3, 2, 1), (4, 3, 5)])
def test_meshes_contain_gamma_and_one_of_each_pair(divisions: tuple[int, int, int]) -> None:
    points, weights = gamma_centred(divisions)
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(points[0], 0.0)
    whole = {tuple(np.round((sign * point) % 1.0, 9) % 1.0) for point in points for sign in (1, -1)}
    assert len(whole) == np.prod(divisions)
    n_self_paired = np.prod([2 if n % 2 == 0 else 1 for n in divisions])
    assert len(points) == (np.prod(divisions) + n_self_paired) // 2


@pytest.mark.parametrize(
    ("header", "charge"),
    [
        ('<PP_HEADER element="Si"\n z_valence="4.000000000000E+000"/>', 4.0),
        ("<PP_HEADER>\n   11.00000000000      Z valence\n</PP_HEADER>", 11.0),
    ],
)
def test_valence_charge_of_both_versions_of_upf(tmp_path: Path, header: str, charge: float) -> None:
    (tmp_path / "a.UPF").write_text(header)
    assert valence_charge(tmp_path / "a.UPF") == charge
