import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from activeph.errors import InputError, LabelFailed
from activeph.label.replay import ReplayLabeler
from activeph.records import Configuration


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, list[Configuration]]:
    frames, configurations = [], []
    for seed in range(4):
        atoms = bulk("KBr", "rocksalt", 6.775) * (2, 1, 1)
        atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(4, 3))
        atoms.info |= {"energy": -float(seed), "gap": 5.0 + seed, "vbm": -7.0}
        atoms.arrays["forces"] = np.full((4, 3), float(seed))
        frames.append(atoms)
        configurations.append(Configuration(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array))
    write(tmp_path / "labels.extxyz", frames)
    return tmp_path / "labels.extxyz", configurations


def test_every_configuration_finds_its_own_label(labelled: tuple[Path, list[Configuration]], tmp_path: Path) -> None:
    path, configurations = labelled
    labeler = ReplayLabeler.model_validate({"files": str(path)})
    labeler.check(configurations[0])
    for number, configuration in enumerate(configurations):
        label = labeler.label(configuration, tmp_path)
        assert (label.energy, label.band_gap) == (-number, 5.0 + number)
        assert label.provenance["code"] == "replay"


def test_the_decimals_of_a_file_do_not_matter(labelled: tuple[Path, list[Configuration]], tmp_path: Path) -> None:
    """Labels written with five decimals are found by the positions before."""
    path, configurations = labelled
    coarse = tmp_path / "coarse.extxyz"
    frames = read(path, index=":")
    for atoms in frames:
        atoms.positions = np.round(atoms.positions, 5)  # type: ignore[union-attr]
    write(coarse, frames)
    for number, configuration in enumerate(configurations):
        assert ReplayLabeler(files=(coarse,)).label(configuration, tmp_path).energy == -number


def test_an_unknown_configuration_is_missing(labelled: tuple[Path, list[Configuration]], tmp_path: Path) -> None:
    path, configurations = labelled
    moved = Configuration(configurations[0].numbers, configurations[0].positions + np.eye(4, 3), configurations[0].cell)
    with pytest.raises(LabelFailed, match=r"labels\.extxyz") as caught:
        ReplayLabeler(files=(path,)).label(moved, tmp_path)
    assert caught.value.kind == "missing"


def test_the_fingerprint_follows_the_contents(labelled: tuple[Path, list[Configuration]], tmp_path: Path) -> None:
    path, _ = labelled
    copy = tmp_path / "copy.extxyz"
    shutil.copy(path, copy)
    original = ReplayLabeler(files=(path,)).fingerprint
    assert ReplayLabeler(files=(copy,)).fingerprint == original
    copy.write_text(copy.read_text().replace("gap=5.0", "gap=5.5"))
    assert ReplayLabeler(files=(copy,)).fingerprint != original


def test_the_first_of_several_files_wins(labelled: tuple[Path, list[Configuration]], tmp_path: Path) -> None:
    path, configurations = labelled
    other = tmp_path / "other.extxyz"
    other.write_text(path.read_text().replace("gap=5.0", "gap=1.0"))
    assert ReplayLabeler(files=(path, other)).label(configurations[0], tmp_path).band_gap == 5.0
    assert ReplayLabeler(files=(other, path)).label(configurations[0], tmp_path).band_gap == 1.0


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    path = tmp_path / "none.extxyz"
    path.touch()
    labeler = ReplayLabeler(files=(path,))
    path.unlink()
    with pytest.raises(InputError, match="must exist but got"):
        labeler.check(Configuration(np.array([1]), np.zeros((1, 3)), np.eye(3)))
    with pytest.raises(InputError, match="must exist but got"):
        _ = labeler.fingerprint
