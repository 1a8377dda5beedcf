"""One suite over every labeler that can run here."""

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from activeph.errors import LabelFailed
from activeph.identity import configuration_key
from activeph.kinds import known_kinds, load_kind
from activeph.label.base import Labeler
from activeph.records import Configuration

sys.path.insert(0, str(Path(__file__).parents[1] / "label"))

from small_mace_model import write_small_model  # noqa: E402


def displaced(name: str, lattice: float, seed: int = 0) -> Configuration:
    structure = "rocksalt" if len(name) > 2 else "fcc"
    atoms = bulk(name, structure, lattice, cubic=name == "Cu")
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    return Configuration(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array)


def silicon() -> Configuration:
    atoms = bulk("Si", "diamond", 5.43)
    atoms.positions[0] += [0.02, 0.01, 0.0]
    return Configuration(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array)


SALT = displaced("KBr", 6.775)
COPPER = displaced("Cu", 3.6)
SILICON = silicon()
ABINIT = {"pseudopotentials": {"Si": "Pseudodojo_nc_sr_04_pbe_standard_psp8/Si.psp8"}, "valence": {"Si": 4.0}}


def replayed(directory: Path) -> dict[str, Any]:
    from ase import Atoms

    atoms = Atoms(
        SALT.numbers, SALT.positions, cell=SALT.cell, pbc=True, info={"energy": -1.0, "gap": 5.0, "vbm": -7.0}
    )
    atoms.info["stress"] = np.zeros(6)
    atoms.arrays["forces"] = np.zeros((2, 3))
    write(directory / "labels.extxyz", atoms)
    return {"files": str(directory / "labels.extxyz")}


def small_mace(directory: Path) -> dict[str, Any]:
    """Return settings of a labeler whose model is small and untrained."""
    return {"model": str(write_small_model(directory / "small.model"))}


def brought_back(directory: Path) -> dict[str, Any]:
    """Return settings of a labeler whose one result lies there already."""
    place = directory / "exchange" / configuration_key(SALT)[:16]
    place.mkdir(parents=True)
    (directory / "labels").mkdir()
    (place / "result.extxyz").write_bytes(Path(replayed(directory / "labels")["files"]).read_bytes())
    return {"directory": str(directory / "exchange"), "name": "by-hand"}


CASES: dict[str, tuple[Any, Configuration]] = {
    "xtb": (lambda directory: {}, SALT),
    "ase": (lambda directory: {"calculator": "ase.calculators.emt:EMT"}, COPPER),
    "replay": (replayed, SALT),
    "files": (brought_back, SALT),
    "mace": (small_mace, SALT),
    "gpaw": (lambda directory: {"mode": {"pw": 250.0}}, SILICON),
    "espresso": (
        lambda directory: {"pseudopotentials": {"Si": "Si.pbe-nl-rrkjus_psl.1.0.0.UPF"}, "ecutwfc": 20.0},
        SILICON,
    ),
    "cp2k": (lambda directory: {"cutoff": 150.0}, SILICON),
    "abinit": (lambda directory: {**ABINIT, "ecut": 8.0}, SILICON),
}
PROGRAMS = {"gpaw", "espresso", "cp2k", "abinit"}
WITHOUT_BANDS = {"ase", "mace"}
MARKS = {**dict.fromkeys(PROGRAMS, pytest.mark.integration), "mace": pytest.mark.slow}


def test_every_kind_is_here_but_the_one_that_needs_a_licence() -> None:
    assert set(CASES) == set(known_kinds("labelers")) - {"vasp"}


@pytest.fixture(params=[pytest.param(kind, marks=MARKS.get(kind, ())) for kind in CASES])
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
    assert (label.provenance["wall_time"] or 0.0) >= 0.0
    if labeler.kind in {*PROGRAMS, "xtb"}:
        assert label.provenance["code_version"]
        assert label.provenance["scf_iterations"] > 0
        assert label.direct_band_gap >= label.band_gap
        for name in set(type(labeler).model_fields) - getattr(labeler, "HOW_TO_RUN", frozenset()):
            assert name in label.provenance["settings"]


def test_the_same_question_has_the_same_answer(case: tuple[Labeler, Configuration], tmp_path: Path) -> None:
    labeler, configuration = case
    first, second = (labeler.label(configuration, tmp_path) for _ in range(2))
    digits = 1e-6 if labeler.kind in PROGRAMS else 0.0  # eV: their sums may be taken in another order
    assert first.energy == pytest.approx(second.energy, rel=0, abs=digits)
    np.testing.assert_allclose(first.forces, second.forces, rtol=0, atol=100 * digits)


def test_unconverged_is_no_label(case: tuple[Labeler, Configuration], tmp_path: Path) -> None:
    """Of those that iterate: with two iterations and no ladder there is a failure that says so."""
    labeler, configuration = case
    if "max_iterations" not in type(labeler).model_fields:  # type: ignore[attr-defined]
        return
    hasty = labeler.model_copy(update={"max_iterations": 2, "ladder": ()})  # type: ignore[attr-defined]
    assert hasty.fingerprint != labeler.fingerprint
    with pytest.raises(LabelFailed) as caught:
        hasty.label(configuration, tmp_path)
    assert caught.value.kind == "unconverged"


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
