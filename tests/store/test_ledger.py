import io
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.records import Configuration, Failure, Label
from activeph.store.ledger import Ledger, label_key
from activeph.store.records_io import unpacked

KEY = "3f9c" + "0" * 20


def a_label(seed: int = 0) -> Label:
    rng = np.random.default_rng(seed)
    configuration = Configuration(np.array([19, 35]), rng.normal(size=(2, 3)), rng.normal(size=(3, 3)))
    return Label(
        configuration=configuration,
        energy=-0.1 - 1e-16 * seed,
        forces=rng.normal(size=(2, 3)),
        stress=rng.normal(size=6),
        band_gap=1 / 3,
        direct_band_gap=math.nan,
        valence_band_maximum=-7.123456789012345,
        conduction_band_minimum=5e-324,
        eigenvalues=rng.normal(size=(1, 2, 5)),
        occupations=rng.random((1, 2, 5)),
        provenance={
            "code": "test",
            "scf_iterations": np.int64(7),
            "wall_time": np.float64(0.1),
            "host": None,
            "n": [1, 2],
        },
    )


def assert_identical(first: Label, second: Label) -> None:
    for name in ("energy", "band_gap", "direct_band_gap", "valence_band_maximum", "conduction_band_minimum"):
        assert np.float64(getattr(first, name)).tobytes() == np.float64(getattr(second, name)).tobytes(), name
    for name in ("forces", "stress", "eigenvalues", "occupations"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), strict=True)
    for name in ("numbers", "positions", "cell"):
        mine, other = getattr(first.configuration, name), getattr(second.configuration, name)
        np.testing.assert_array_equal(mine, other, strict=True)
    assert first.provenance == second.provenance


def test_a_label_comes_back_bit_by_bit(tmp_path: Path) -> None:
    ledger, label = Ledger(tmp_path), a_label()
    assert ledger.put(KEY, label.configuration, label)
    found = Ledger(tmp_path).get(KEY)
    assert isinstance(found, Label)
    assert_identical(found, label)
    assert ledger.directory(KEY) == tmp_path / "3f" / KEY
    assert sorted(path.name for path in ledger.directory(KEY).iterdir()) == ["arrays.npz", "label.json"]
    assert ledger.state(KEY) == "label"


def test_a_failure_comes_back_with_its_evidence(tmp_path: Path) -> None:
    ledger, configuration = Ledger(tmp_path), a_label().configuration
    failure = Failure("unconverged", "SCF not converged in 3 cycles", {"host": "a"})
    with ledger.workdir(KEY) as workdir:
        (workdir / "scf.log").write_text("1 2 3")
        assert ledger.put(KEY, configuration, failure, workdir)
    assert ledger.get(KEY) == failure
    assert ledger.state(KEY) == "failure"
    assert (ledger.directory(KEY) / "scf.log").read_text() == "1 2 3"
    assert not (ledger.directory(KEY) / "label.json").exists()


def test_nothing_is_known_of_a_new_key(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "not yet there")
    assert ledger.get(KEY) is None
    assert ledger.state(KEY) is None
    assert list(ledger.keys()) == []
    assert ledger.calculations() == []
    assert not ledger.root.exists()


def test_the_first_record_stays(tmp_path: Path) -> None:
    ledger, first, second = Ledger(tmp_path), a_label(1), a_label(2)
    assert ledger.put(KEY, first.configuration, first)
    assert not ledger.put(KEY, second.configuration, second)
    found = ledger.get(KEY)
    assert isinstance(found, Label)
    assert found.energy == first.energy


@pytest.mark.parametrize("replace", [True, False])
def test_a_label_takes_the_place_of_a_failure(replace: bool, tmp_path: Path) -> None:
    ledger, label, failure = Ledger(tmp_path), a_label(), Failure("crashed", "bad node")
    ledger.put(KEY, label.configuration, failure)
    assert ledger.put(KEY, label.configuration, label, replace=replace)
    assert ledger.state(KEY) == "label"
    assert os.listdir(tmp_path / "3f") == [KEY]
    assert not ledger.put(KEY, label.configuration, failure)
    assert ledger.state(KEY) == "label"


def test_work_that_another_driver_sweeps_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Path, pattern: str) -> Any:
        shutil.rmtree(self)
        raise FileNotFoundError(self)

    ledger = Ledger(tmp_path)
    host = socket.gethostname()
    (tmp_path / "3f" / f".{KEY}@{host}.{2**22 + 1}@1000-deadbeef").mkdir(parents=True)
    monkeypatch.setattr(Path, "rglob", gone)
    ledger.sweep()
    assert os.listdir(tmp_path / "3f") == []


def test_abandoned_work_leaves_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.workdir(KEY) as workdir:
        (workdir / "big.out").write_text("x")
        assert ledger.running() == [KEY]
    assert os.listdir(tmp_path / "3f") == []
    assert ledger.running() == []


def test_work_of_killed_processes_is_swept_and_never_a_record(tmp_path: Path) -> None:
    script = (
        "import os, sys, signal; from pathlib import Path; from activeph.store.ledger import Ledger\n"
        f"with Ledger(Path(sys.argv[1])).workdir({KEY!r}) as workdir:\n"
        "    (workdir / 'label.json').write_text('half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    ledger = Ledger(tmp_path)
    assert len(os.listdir(tmp_path / "3f")) == 1
    assert ledger.get(KEY) is None
    assert list(ledger.keys()) == []
    assert ledger.running() == []
    with ledger.workdir(KEY):
        assert ledger.sweep() == 1
        assert ledger.running() == [KEY]


def test_keys_are_listed_sorted(tmp_path: Path) -> None:
    ledger, label = Ledger(tmp_path), a_label()
    keys = ["ff" + "1" * 22, "00" + "2" * 22, "00" + "1" * 22]
    for key in keys:
        ledger.put(key, label.configuration, label)
    ledger.log_attempt(keys[0], "label", 0.1)
    assert list(ledger.keys()) == sorted(keys)


@pytest.mark.parametrize("damage", ["truncate", "flip", "no arrays", "not json", "other format"])
def test_damage_is_refused(tmp_path: Path, damage: str) -> None:
    ledger, label = Ledger(tmp_path), a_label()
    ledger.put(KEY, label.configuration, label)
    arrays, record = ledger.directory(KEY) / "arrays.npz", ledger.directory(KEY) / "label.json"
    data = bytearray(arrays.read_bytes())
    if damage == "truncate":
        arrays.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 3] ^= 1
        arrays.write_bytes(data)
    elif damage == "no arrays":
        arrays.unlink()
    elif damage == "not json":
        record.write_text(record.read_text()[:-20])
    else:
        record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
    with pytest.raises(InputError, match="must be a whole record but got damage"):
        ledger.get(KEY)


def test_many_processes_write_the_same_keys(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from test_ledger import a_label; from activeph.store.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "wins = sum(ledger.put(f'{i:02d}' + '0' * 22, a_label(i).configuration, a_label(i)) for i in range(20))\n"
        "print(wins)"
    )
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), here], stdout=subprocess.PIPE) for _ in range(3)
    ]
    wins = [int(process.communicate()[0]) for process in processes]
    assert sum(wins) == 20
    ledger = Ledger(tmp_path)
    for number, key in enumerate(ledger.keys()):
        found = ledger.get(key)
        assert isinstance(found, Label)
        assert_identical(found, a_label(number))
    assert not [name for shelf in tmp_path.iterdir() for name in os.listdir(shelf) if name.startswith(".")]


def test_calculations_are_counted_in_spite_of_a_torn_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.log_attempt(KEY, "label", 1.5)
    (tmp_path / "calculations" / "dead-host-17.jsonl").write_text('{"key": "abc", "outc')
    ledger.log_attempt(label_key(a_label().configuration, "f"), "unconverged", 2.0)
    assert [calculation["outcome"] for calculation in ledger.calculations()] == ["label", "unconverged"]


def test_what_is_noted_last_of_an_attempt_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.log_attempt(KEY, "label", 1.5, work="first")
    ledger.log_attempt(KEY, "label", 2.5, work="second")
    ledger.log_attempt(KEY, "duplicate", 2.6, work="second")
    ledger.log_attempt(KEY, "lost", 1.6, work="first")
    noted = {attempt["work"]: (attempt["outcome"], attempt["seconds"]) for attempt in ledger.attempts()}
    assert noted == {"first": ("lost", 1.6), "second": ("duplicate", 2.6)}
    assert len(ledger.attempts()) == 2


def test_of_labels_noted_for_one_key_the_last_was_recorded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for seconds in (1.5, 2.5):
        ledger.log_attempt(KEY, "label", seconds, work=str(seconds))
    assert [(attempt["outcome"], attempt["seconds"]) for attempt in ledger.attempts()] == [
        ("lost", 1.5),
        ("label", 2.5),
    ]
    assert len(ledger.calculations()) == 1


def test_arrays_are_unpacked_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "plain": rng.normal(size=(40, 3)),
        "columns": np.asfortranarray(rng.normal(size=(3, 4, 5))),
        "empty": np.empty((0, 0, 0)),
        "integers": np.arange(5, dtype=np.int32),
        "single": np.float32(1.5),
        "swapped": np.arange(4, dtype=">f8"),
        "words": np.array(["a", "bc"]),
    }
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    found = unpacked(stream.getvalue())
    with np.load(io.BytesIO(stream.getvalue())) as expected:
        assert list(found) == expected.files
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name], strict=True)
            assert found[name].dtype == expected[name].dtype
            assert found[name].flags.writeable


@pytest.mark.parametrize("save", [np.savez_compressed, np.savez])
def test_other_archives_are_refused(save: Any) -> None:
    stream = io.BytesIO()
    save(stream, what=np.array([{}], dtype=object) if save is np.savez else np.zeros(3))
    with pytest.raises(ValueError, match="is no plain array"):
        unpacked(stream.getvalue())
