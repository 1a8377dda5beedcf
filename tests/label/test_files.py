from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from activeph.errors import InputError, Paused
from activeph.execute.serial import SerialWorkers
from activeph.label.files import FilesLabeler
from activeph.labelling import obtain
from activeph.records import Configuration, Failure, Label
from activeph.store.ledger import Ledger


def configurations(n: int) -> list[Configuration]:
    rng = np.random.default_rng(0)
    crystal = bulk("KBr", "rocksalt", 6.775)
    return [
        Configuration(
            crystal.numbers.astype(np.int64),
            crystal.positions + rng.normal(scale=0.1, size=(2, 3)),
            crystal.cell.array,
        )
        for _ in range(n)
    ]


def answer(place: Path, order: list[int]) -> None:
    """Put a result there as another program would: other order of atoms, few decimals."""
    atoms = read(place / "POSCAR")
    assert isinstance(atoms, Atoms)
    energy = -float(np.abs(atoms.positions).sum())
    atoms = atoms[order]
    atoms.info |= {"energy": energy, "gap": 5.0, "vbm": -7.0, "stress": np.zeros(6)}
    atoms.arrays["forces"] = np.array([[float(number), 0.0, 0.0] for number in atoms.numbers])
    write(place / "result.extxyz", atoms)


def test_the_campaign_waits_until_all_results_are_there(tmp_path: Path) -> None:
    labeler, ledger = FilesLabeler(directory=tmp_path / "exchange", name="by-hand"), Ledger(tmp_path / "labels")
    wanted = configurations(3)
    with pytest.raises(Paused, match="a result is awaited in"):
        obtain(labeler, wanted, ledger, SerialWorkers())
    places = sorted(labeler.directory.iterdir())
    assert len(places) == 3  # all are laid out before the campaign pauses
    assert list(ledger.keys()) == []
    answer(places[0], [0, 1])
    answer(places[1], [1, 0])
    with pytest.raises(Paused):
        obtain(labeler, wanted, ledger, SerialWorkers())
    assert len(list(ledger.keys())) == 2
    (places[2] / "failed.txt").write_text("the queue ate it")
    outcomes = list(obtain(labeler, wanted, ledger, SerialWorkers()).values())
    labels = [outcome for outcome in outcomes if isinstance(outcome, Label)]
    assert len(labels) == 2
    for label in labels:
        np.testing.assert_array_equal(label.forces[:, 0], label.configuration.numbers)
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert "the queue ate it" in failure.message


def test_what_somebody_put_there_by_mistake_is_not_a_failed_calculation(tmp_path: Path) -> None:
    labeler, ledger = FilesLabeler(directory=tmp_path / "exchange", name="by-hand"), Ledger(tmp_path / "labels")
    wanted = configurations(2)
    with pytest.raises(Paused):
        obtain(labeler, wanted, ledger, SerialWorkers())
    first, second = sorted(labeler.directory.iterdir())
    answer(first, [0, 1])
    (second / "result.extxyz").write_bytes((first / "result.extxyz").read_bytes())
    with pytest.raises(Paused, match=r"must be the result of structure.extxyz beside it but got another structure"):
        obtain(labeler, wanted, ledger, SerialWorkers())
    answer(second, [0, 1])
    whole = (second / "result.extxyz").read_bytes()
    (second / "result.extxyz").write_bytes(whole[: len(whole) * 3 // 4])  # still being copied
    with pytest.raises(Paused, match=r"result.extxyz must be a whole result but got .*; copy it again"):
        obtain(labeler, wanted, ledger, SerialWorkers())
    (second / "result.extxyz").write_bytes(whole)
    assert all(isinstance(found, Label) for found in obtain(labeler, wanted, ledger, SerialWorkers()).values())
    assert {one["outcome"] for one in ledger.attempts()} == {"label"}


def test_the_result_of_another_structure_is_refused(tmp_path: Path) -> None:
    labeler = FilesLabeler(directory=tmp_path / "exchange", name="by-hand")
    first, second = configurations(2)
    for configuration in (first, second):
        with pytest.raises(Paused):
            labeler.label(configuration, tmp_path)
    places = sorted(labeler.directory.iterdir())
    answer(places[0], [0, 1])
    (places[1] / "result.extxyz").write_bytes((places[0] / "result.extxyz").read_bytes())
    refused = 0
    for configuration in (first, second):
        try:
            labeler.label(configuration, tmp_path)
        except InputError as error:
            refused += "another structure" in str(error)
    assert refused == 1


def test_a_torn_result_is_waited_for(tmp_path: Path) -> None:
    labeler, (configuration,) = FilesLabeler(directory=tmp_path, name="by-hand"), configurations(1)
    with pytest.raises(Paused):
        labeler.label(configuration, tmp_path)
    (next(tmp_path.iterdir()) / "vasprun.xml").write_text("<modeling>")
    with pytest.raises(Paused, match="vasprun.xml must be a whole result but got .*cannot be read.*; copy it again"):
        labeler.label(configuration, tmp_path)


def test_the_name_is_the_fingerprint(tmp_path: Path) -> None:
    first = FilesLabeler(directory=tmp_path / "a", name="hse")
    assert first.fingerprint == FilesLabeler(directory=tmp_path / "b", name="hse").fingerprint
    assert first.fingerprint != FilesLabeler(directory=tmp_path / "a", name="pbe").fingerprint
