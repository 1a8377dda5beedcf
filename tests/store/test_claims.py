import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from activeph.ledger_tools import abandoned_work
from activeph.store import claims as module
from activeph.store.claims import Claims
from activeph.store.ledger import Ledger
from activeph.store.lock import identity

KEY = "3f9c" + "0" * 20
OTHER = "3f9c" + "1" * 20
HOLD = """
import sys, time
from pathlib import Path
from activeph.store.claims import Claims
with Claims(Path(sys.argv[1])).hold(sys.argv[2]) as other:
    print("taken" if other else "held", flush=True)
    time.sleep(60)
"""


HOLD_AND_WORK = """
import sys, time
from pathlib import Path
from activeph.store.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), Path(sys.argv[2]))
with ledger.claims.hold(sys.argv[3]), ledger.workdir(sys.argv[3]):
    print("held", flush=True)
    time.sleep(60)
"""


def hold_elsewhere(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(directory), KEY], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def work_elsewhere(ledger: Ledger) -> Path:
    """Let another process die at a calculation of this ledger's account; return its working directory."""
    command = [sys.executable, "-c", HOLD_AND_WORK, str(ledger.root), str(ledger.log), KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    (left,) = ledger.leavings(KEY)
    return left


def forge(directory: Path, age: float, **facts: object) -> Path:
    """Leave a claim of a process of another host that was last seen ``age`` seconds ago."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{KEY}@000000000000"
    path.symlink_to(json.dumps(identity() | {"host": "another-host"} | facts))
    seen = time.time() - age
    os.utime(path, (seen, seen), follow_symlinks=False)
    return path


def test_one_of_two_holds_a_calculation(tmp_path: Path) -> None:
    first, second = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with first.hold(KEY) as mine:
        assert mine is None
        with second.hold(KEY) as other:
            assert other is not None
            assert other.key == KEY
            assert other.who == f"process {os.getpid()} on host {os.uname().nodename}"
        with second.hold(OTHER) as another:
            assert another is None
            assert set(first.living()) == {KEY, OTHER}
    assert first.living() == {}
    assert os.listdir(tmp_path / "claims") == []
    with second.hold(KEY) as mine:
        assert mine is None


def test_a_claim_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Claims(tmp_path).hold(KEY):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_claim_dies_with_its_holder(tmp_path: Path) -> None:
    process = hold_elsewhere(tmp_path)
    claims = Claims(tmp_path)
    try:
        with claims.hold(KEY) as other:
            assert other is not None
            assert other.holder["pid"] == process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(os.listdir(tmp_path)) == 1
    with claims.hold(KEY) as other:
        assert other is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("age", "facts", "counts"),
    [
        (10, {}, True),  # nothing can be known of it, but it was seen of late
        (1000, {}, False),  # it has not been seen for long
        (10, {"host": os.uname().nodename, "boot": "an earlier boot"}, False),
        (10, {"host": os.uname().nodename, "pid": 2**22 + 1}, False),
    ],
)
def test_which_claims_count(tmp_path: Path, age: float, facts: dict[str, object], counts: bool) -> None:
    path = forge(tmp_path, age, **facts)
    with Claims(tmp_path).hold(KEY) as other:
        assert (other is not None) == counts
    assert path.is_symlink() == counts
    assert (KEY in Claims(tmp_path).living()) == counts


def test_the_age_of_a_claim_is_told_by_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(tmp_path, age=10)
    monkeypatch.setattr(time, "time", lambda: 2e9)  # a host whose clock is wrong
    with Claims(tmp_path).hold(KEY) as other:
        assert other is not None


def test_the_living_touch_their_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "_heart", module.Heart())
    with Claims(tmp_path).hold(KEY):
        (path,) = tmp_path.iterdir()
        os.utime(path, (0, 0), follow_symlinks=False)
        end = time.monotonic() + 10
        while os.lstat(path).st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "{", "[]", "nonsense"])
def test_what_is_no_claim_is_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / f"{KEY}@000000000000").symlink_to(content or " ")
    with Claims(tmp_path).hold(KEY) as other:
        assert other is None
    assert os.listdir(tmp_path) == []


def test_of_many_at_once_one_holds(tmp_path: Path) -> None:
    """Threads of one process, whose claims all count."""
    begin, holding, most = threading.Barrier(8), [0], [0]
    guard, wins = threading.Lock(), [0]

    def work() -> None:
        for number in range(30):
            begin.wait()
            with Claims(tmp_path).hold(f"{number:02d}") as other:
                if other is None:
                    with guard:
                        holding[0] += 1
                        wins[0] += 1
                        most[0] = max(most[0], holding[0])
                    time.sleep(0.002)
                    with guard:
                        holding[0] -= 1
            begin.wait()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert wins[0] >= 30  # each was calculated, some after another had finished
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_symbolic_links_has_no_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    with Claims(tmp_path).hold(KEY) as first, Claims(tmp_path).hold(KEY) as second:
        assert (first, second) == (None, None)
    assert Claims(tmp_path).living() == {}


def test_a_ledger_sweeps_the_claims_of_the_dead(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    process = hold_elsewhere(ledger.claims.directory)
    ledger.sweep()
    assert set(ledger.claims.living()) == {KEY}
    process.kill()
    process.wait()
    ledger.sweep()
    assert os.listdir(ledger.claims.directory) == []


def test_the_time_of_the_dead_counts_until_they_were_last_seen(tmp_path: Path) -> None:
    """A code that writes no files as it goes leaves nothing else that tells how long it ran."""
    ledger = Ledger(tmp_path)
    left = work_elsewhere(ledger)
    hour_later = time.time() + 3600
    os.utime(left, (hour_later, hour_later))
    assert set(ledger.claims.living()) == set()  # whoever finds the claim dead removes it
    assert ledger.sweep() == 1
    ((outcome, seconds),) = ((one["outcome"], one["seconds"]) for one in ledger.attempts())
    assert outcome == "lost"
    assert seconds == pytest.approx(3600, abs=30)
    assert os.listdir(ledger.claims.directory) == []


def test_the_living_touch_their_working_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "_heart", module.Heart())
    with Ledger(tmp_path).workdir(KEY) as workdir:
        os.utime(workdir, (0, 0))
        end = time.monotonic() + 10
        while workdir.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_what_the_dead_of_another_campaign_left_is_told_and_theirs_to_pay(tmp_path: Path) -> None:
    mine, theirs = (Ledger(tmp_path / "labels", tmp_path / name / "calculations") for name in ("KBr 1", "GaN"))
    left = work_elsewhere(theirs)
    assert theirs.running() == []
    assert mine.sweep() == 0
    assert mine.attempts() == []
    assert left.exists()
    sentence = abandoned_work(mine) or ""
    assert sentence.startswith(f"1 calculation was left half done by dead processes (1 of {theirs.account}), such as ")
    assert str(left) in sentence
    assert theirs.account.startswith("GaN-")
    assert mine.account.startswith("KBr_1-")
    assert theirs.sweep() == 1
    assert [one["outcome"] for one in theirs.attempts()] == ["lost"]
    assert mine.attempts() == []
    assert not left.exists()
    assert abandoned_work(mine) is None


def test_silent_work_of_other_hosts_is_told_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    left = tmp_path / KEY[:2] / f".{KEY}@another-host.7@GaN-01234567@1000000000-abcdef01"
    left.mkdir(parents=True)
    assert abandoned_work(ledger) is None
    os.utime(left, (1e9, 1e9))
    assert "(1 of GaN-01234567)" in (abandoned_work(ledger) or "")


@pytest.mark.parametrize(("age", "begun", "is_lost"), [(1000, 2000, True), (10, 2000, False), (1000, 20, False)])
def test_what_a_lost_host_was_at_is_swept_and_counted(tmp_path: Path, age: float, begun: float, is_lost: bool) -> None:
    ledger = Ledger(tmp_path)
    forge(ledger.claims.directory, age, pid=7)
    left = tmp_path / KEY[:2] / f".{KEY}@another-host.7@{time.time() - begun:.0f}-abcdef01"
    left.mkdir(parents=True)
    (left / "output").write_text("iteration 1")
    os.utime(left / "output", (time.time() - 1500,) * 2)
    os.utime(left, (time.time() - age,) * 2)  # the living touch it together with their claim
    assert ledger.sweep() == is_lost
    assert left.exists() is not is_lost
    if is_lost:  # seen until 1000 s ago
        ((outcome, seconds),) = ((one["outcome"], one["seconds"]) for one in ledger.attempts())
        assert (outcome, seconds) == ("lost", pytest.approx(1000, abs=5))


def test_where_nobody_claims_other_hosts_are_left_alone(tmp_path: Path) -> None:
    left = tmp_path / KEY[:2] / f".{KEY}@another-host.7@1000000000-abcdef01"
    left.mkdir(parents=True)
    assert Ledger(tmp_path).sweep() == 0
    assert left.exists()
