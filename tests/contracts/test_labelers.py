"""One suite over every labeler that can run here."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from activeph.identity import configuration_key
from activeph.kinds import load_kind
from activeph.label.base import Labeler
from activeph.records import Configuration


def displaced(name: str, lattice: float, seed: int = 0) -> Configuration:
    structure = "rocksalt" if len(name) > 2 else "fcc"
    atoms = bulk(name, structure, lattice, cubic=name == "Cu")
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    return Configuration(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array)


SALT = displaced("KBr", 6.775)
COPPER = displaced("Cu", 3.6)


def replayed(directory: Path) -> dict[str, Any]:
    from ase import Atoms

    atoms = Atoms(
        SALT.numbers, SALT.positions, cell=SALT.cell, pbc=True, info={"energy": -1.0, "gap": 5.0, "vbm": -7.0}
    )
    atoms.info["stress"] = np.zeros(6)
    atoms.arrays["forces"] = np.zeros((2, 3))
    write(directory / "labels.extxyz", atoms)
    return {"files": str(directory / "labels.extxyz")}


def brought_back(directory: Path) -> dict[str, Any]:
    """Return settings of a labeler whose one result lies there already."""
    place = directory / "exchange" / configuration_key(SALT)[:16]
    place.mkdir(parents=True)
    (directory / "labels").mkdir()
    (place / "result.extxyz").write_bytes(Path(replayed(directory / "labels")["files"]).read_bytes())
    return {"directory": str(directory / "exchange"), "name": "by-hand"}


CASES = {
    "xtb": (lambda directory: {}, SALT),
    "ase": (lambda directory: {"calculator": "ase.calculators.emt:EMT"}, COPPER),
    "replay": (replayed, SALT),
    "files": (brought_back, SALT),
}
WITHOUT_BANDS = {"ase"}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Labeler, Configuration]:
    settings, configuration = CASES[request.param]
    section = load_kind("labelers", request.param).model_validate(settings(tmp_path))
    return section, configuration  # type: ignore[return-value]


def test_a_label_is_whole(case: tuple[Labeler, Configuration], tmp_path: Path) -> None:
    labeler, configuration = case
    labeler.check(configuration)
    label = labeler.label(configuration, tmp_path)
    n_atoms = len(configuration.numbers)
    assert label.configuration is configuration or np.array_equal(
        label.configuration.positions, configuration.positions
    )
    assert isinstance(label.energy, float)
    assert label.forces.shape == (n_atoms, 3)
    assert label.stress.shape == (6,)
    assert np.isfinite([label.energy, *label.forces.ravel(), *label.stress]).all()
    assert label.eigenvalues.shape == label.occupations.shape
    assert label.eigenvalues.ndim == 3
    if labeler.kind not in WITHOUT_BANDS:
        assert label.band_gap >= 0
        assert label.conduction_band_minimum - label.valence_band_maximum == pytest.approx(label.band_gap)
    for fact in ("code", "code_version", "fingerprint", "settings", "scf_iterations", "wall_time"):
        assert fact in label.provenance
    assert label.provenance["fingerprint"] == labeler.fingerprint


def test_the_same_question_has_the_same_answer(case: tuple[Labeler, Configuration], tmp_path: Path) -> None:
    labeler, configuration = case
    first, second = (labeler.label(configuration, tmp_path) for _ in range(2))
    assert first.energy == second.energy
    np.testing.assert_array_equal(first.forces, second.forces)


def test_labelers_travel(case: tuple[Labeler, Configuration]) -> None:
    labeler, _ = case
    copy = pickle.loads(pickle.dumps(labeler))
    assert copy == labeler
    assert copy.fingerprint == labeler.fingerprint
    assert re.fullmatch("[0-9a-f]{12}", labeler.fingerprint)


def test_the_input_is_left_alone(case: tuple[Labeler, Configuration], tmp_path: Path) -> None:
    labeler, configuration = case
    positions = configuration.positions.copy()
    labeler.label(configuration, tmp_path)
    np.testing.assert_array_equal(configuration.positions, positions)
