import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from activeph.records import Configuration, Failure, Label
from activeph.store.ledger import Ledger
from activeph.store.packed import LabelPack

KEYS = [f"{number:02x}" + "0" * 22 for number in range(6)]


def a_label(seed: int, n_atoms: int = 3) -> Label:
    rng = np.random.default_rng(seed)
    configuration = Configuration(
        np.arange(n_atoms) + 3, rng.normal(size=(n_atoms, 3)), np.eye(3) + rng.normal(size=(3, 3))
    )
    return Label(
        configuration=configuration,
        energy=-1.0 - 1e-16 * seed,
        forces=rng.normal(size=(n_atoms, 3)),
        stress=np.full(6, np.nan) if seed == 1 else rng.normal(size=6),
        band_gap=1 / 3,
        direct_band_gap=float("nan"),
        valence_band_maximum=-7.123456789012345,
        conduction_band_minimum=5e-324,
        eigenvalues=rng.normal(size=(1, 2, 5)),
        occupations=rng.random((1, 2, 5)),
        provenance={"code": "test"} if seed == 2 else {"code": "test", "wall_time": 0.1 + seed},
    )


def assert_same(first: object, second: Label) -> None:
    """Compare what the pack keeps of a label with the label, bit by bit."""
    assert isinstance(first, Label)
    for name in ("energy", "band_gap", "direct_band_gap", "valence_band_maximum", "conduction_band_minimum"):
        assert np.float64(getattr(first, name)).tobytes() == np.float64(getattr(second, name)).tobytes(), name
    for name in ("forces", "stress"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), strict=True)
    for name in ("numbers", "positions", "cell"):
        mine, other = getattr(first.configuration, name), getattr(second.configuration, name)
        np.testing.assert_array_equal(mine, other, strict=True)
    assert first.eigenvalues.size == first.occupations.size == 0
    assert first.provenance == {"wall_time": second.provenance.get("wall_time")}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "labels")
    for seed, key in enumerate(KEYS):
        label = a_label(seed, n_atoms=2 + seed)
        ledger.put(key, label.configuration, label)
    return ledger


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let nobody open a record."""

    def refuse(self: Ledger, key: str) -> None:
        raise AssertionError(f"record {key} was opened")

    monkeypatch.setattr(Ledger, "get", refuse)
    return monkeypatch


def filled(ledger: Ledger, path: Path, keys: list[str] = KEYS) -> LabelPack:
    pack = LabelPack(ledger, path)
    for key in keys:
        pack.get(key)
    pack.save()
    return pack


def test_labels_come_back_without_their_records_being_opened(
    ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "pack"
    first = filled(ledger, path, KEYS[:4])
    filled(ledger, path, KEYS[2:])  # another process adds to it
    request.getfixturevalue("no_reading")
    again = LabelPack(ledger, path)
    for seed, key in enumerate(KEYS):
        assert_same(again.get(key), a_label(seed, 2 + seed))
    for seed, key in enumerate(KEYS[:4]):
        assert_same(first.get(key), a_label(seed, 2 + seed))


def test_without_a_pack_the_answers_are_the_same(ledger: Ledger, tmp_path: Path) -> None:
    pack = LabelPack(ledger, tmp_path / "none" / "pack")
    for seed, key in enumerate(KEYS):
        assert_same(pack.get(key), a_label(seed, 2 + seed))
        assert_same(pack.get(key), a_label(seed, 2 + seed))
    assert not (tmp_path / "none").exists()
    pack.save()
    assert (tmp_path / "none" / "pack").exists()


def test_failures_and_unknown_keys_are_the_ledgers(ledger: Ledger, tmp_path: Path) -> None:
    failure = Failure("unconverged", "no convergence")
    ledger.put("ff" * 12, a_label(0).configuration, failure)
    pack = filled(ledger, tmp_path / "pack")
    assert pack.get("ff" * 12) == failure
    assert pack.get("ee" * 12) is None


@pytest.mark.parametrize("is_saved", [True, False])
def test_what_was_replaced_or_removed_is_noticed(ledger: Ledger, tmp_path: Path, is_saved: bool) -> None:
    pack = LabelPack(ledger, tmp_path / "pack")
    for key in KEYS:
        pack.get(key)
    if is_saved:
        pack.save()
        pack = LabelPack(ledger, tmp_path / "pack")
    other = a_label(17)
    assert ledger.put(KEYS[0], other.configuration, other, replace=True)
    shutil.rmtree(ledger.directory(KEYS[1]))
    assert_same(pack.get(KEYS[0]), other)
    assert pack.get(KEYS[1]) is None
    assert_same(pack.get(KEYS[2]), a_label(2, 4))
    pack.save()
    assert_same(LabelPack(ledger, tmp_path / "pack").get(KEYS[0]), other)


@pytest.mark.parametrize("damage", ["torn", "flipped", "rubbish", "empty", "other format"])
def test_damage_costs_time_and_nothing_else(ledger: Ledger, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "pack"
    filled(ledger, path, KEYS[:3])
    first = path.stat().st_size
    filled(ledger, path, KEYS[3:])
    data = bytearray(path.read_bytes())
    if damage == "torn":
        data = data[:-5]
    elif damage == "flipped":
        data[-9] ^= 1
    elif damage == "rubbish":
        data = bytearray(b"\x00\n{}" * 100)
    elif damage == "empty":
        data = bytearray()
    else:
        data = bytearray(bytes(data).replace(b'"format": 1', b'"format": 7'))
    path.write_bytes(data)
    pack = LabelPack(ledger, path)
    for seed, key in enumerate(KEYS):
        assert_same(pack.get(key), a_label(seed, 2 + seed))
    pack.save()
    assert path.stat().st_size > first
    assert not LabelPack(ledger, path)._fresh
    assert len(LabelPack(ledger, path)._places) == len(KEYS)


def test_a_copied_run_makes_its_pack_anew_and_does_not_grow(ledger: Ledger, tmp_path: Path) -> None:
    pack = filled(ledger, tmp_path / "pack")
    size = (tmp_path / "pack").stat().st_size
    for moment in range(1, 6):
        for key in KEYS:
            os.utime(ledger.directory(key) / "label.json", (moment, moment))
        pack = filled(ledger, tmp_path / "pack")
        assert (tmp_path / "pack").stat().st_size <= 3 * size
    for seed, key in enumerate(KEYS):
        assert_same(pack.get(key), a_label(seed, 2 + seed))


def test_a_file_system_that_refuses_is_no_error(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    pack = filled(ledger, tmp_path / "file" / "pack")
    assert_same(pack.get(KEYS[0]), a_label(0, 2))
