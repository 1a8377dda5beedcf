import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from activeph.errors import InputError
from activeph.label.mace import MaceLabeler
from activeph.records import Configuration

sys.path.insert(0, str(Path(__file__).parent))

from small_mace_model import write_small_model  # noqa: E402

CRYSTAL = bulk("KBr", "rocksalt", 6.775)
CONFIGURATION = Configuration(
    CRYSTAL.numbers.astype(np.int64), CRYSTAL.positions + [[0.1, 0.0, 0.05], [0, 0, 0]], CRYSTAL.cell.array
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of a small untrained model of K and Br."""
    return write_small_model(tmp_path_factory.mktemp("mace") / "small.model")


@pytest.mark.slow
def test_a_model_labels(model: Path, tmp_path: Path) -> None:
    labeler = MaceLabeler(model=model)
    labeler.check(CONFIGURATION)
    label = labeler.label(CONFIGURATION, tmp_path)
    energies = []
    for sign in (1, -1):
        positions = CONFIGURATION.positions.copy()
        positions[0, 0] += sign * 1e-3
        moved = Configuration(CONFIGURATION.numbers, positions, CONFIGURATION.cell)
        energies.append(labeler.label(moved, tmp_path).energy)
    assert label.forces[0, 0] == pytest.approx(-(energies[0] - energies[1]) / 2e-3, abs=1e-6)
    assert abs(label.forces[0, 0]) > 1e-4
    assert label.stress.shape == (6,)
    assert np.isnan(label.band_gap)
    assert label.provenance["fingerprint"] == labeler.fingerprint


@pytest.mark.slow
def test_unknown_elements_are_named(model: Path) -> None:
    with pytest.raises(InputError, match="label.model must know every element but got none of Cl"):
        MaceLabeler(model=model).check(Configuration(np.array([19, 17]), CONFIGURATION.positions, CONFIGURATION.cell))


def test_a_missing_model_is_the_users_error(tmp_path: Path) -> None:
    path = tmp_path / "none.model"
    path.touch()
    labeler = MaceLabeler(model=path)
    path.unlink()
    with pytest.raises(InputError, match="must be the file of a MACE model but got"):
        _ = labeler.fingerprint


def test_the_fingerprint_follows_the_file_and_not_its_name(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    first, same, other = (MaceLabeler(model=tmp_path / name).fingerprint for name in "abc")
    assert first == same != other
