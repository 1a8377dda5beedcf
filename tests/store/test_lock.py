import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from activeph.errors import InputError
from activeph.store.lock import DirectoryLock, holder, identity, is_stale

HOLD = """
import sys, time
from pathlib import Path
from activeph.store.lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold_elsewhere(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    process = hold_elsewhere(tmp_path)
    try:
        with pytest.raises(InputError, match=rf"process {process.pid} on host {os.uname().nodename}"):
            DirectoryLock(tmp_path).__enter__()
        held = holder(tmp_path)
        assert held is not None
        assert held["pid"] == process.pid
    finally:
        process.kill()
        process.wait()


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    process = hold_elsewhere(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "lock").read_bytes()  # the dead holder's name is still there
    assert holder(tmp_path) is None
    with DirectoryLock(tmp_path):
        held = holder(tmp_path)
        assert held is not None
        assert held["pid"] == os.getpid()
    assert holder(tmp_path) is None


def test_the_lock_is_free_after_use_and_after_errors(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), DirectoryLock(tmp_path / "new"):
        raise RuntimeError
    with DirectoryLock(tmp_path / "new"):
        pass


def test_two_locks_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path), pytest.raises(InputError, match="one driver but got a second"):
        DirectoryLock(tmp_path).__enter__()


@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        ({"host": "another-host"}, True),  # nothing can be known of it
        ({}, True),  # this very process, alive
        ({"boot": "an earlier boot"}, False),
        ({"pid": 2**22 + 1}, False),  # beyond the largest number of a process
        ({"started": "1"}, False),  # the number was given to another process since
    ],
)
def test_what_is_stale_without_a_lock_of_the_system(
    tmp_path: Path, change: dict[str, object], is_refused: bool
) -> None:
    """The name in the file alone decides, as on file systems without locks."""
    (tmp_path / "lock").write_text(json.dumps(identity() | change))
    if is_refused:
        with pytest.raises(InputError, match="must have one driver"):
            DirectoryLock(tmp_path).__enter__()
    else:
        with DirectoryLock(tmp_path):
            pass


@pytest.mark.parametrize("content", ["", "{", "[]", "\0\0\0"])
def test_a_torn_lock_file_is_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    with DirectoryLock(tmp_path):
        pass


def test_of_many_drivers_started_at_once_one_gets_in(tmp_path: Path) -> None:
    script = HOLD.replace("time.sleep(60)", "time.sleep(1.5)")
    (tmp_path / "lock").write_text(json.dumps(identity() | {"pid": 2**22 + 1}))  # a stale lock to take over
    start = time.monotonic()
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    winners = [process for process in processes if b"held" in process.communicate()[0]]
    if time.monotonic() - start < 1.4 * 2:  # all were started while the first could still hold it
        assert len(winners) == 1
    assert winners


def test_a_dead_holder_that_nobody_has_buried_does_not_count(tmp_path: Path) -> None:
    process = hold_elsewhere(tmp_path)
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert holder(tmp_path) is None  # the process is a zombie: its parent, this test, has not waited for it
    with DirectoryLock(tmp_path):
        pass
    process.wait()


def test_a_living_holder_whose_process_is_hidden_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    living = identity()
    monkeypatch.setattr("activeph.store.lock.os.path.exists", lambda path: not str(path).startswith("/proc/"))
    monkeypatch.setattr("activeph.store.lock.start_time", lambda pid: None)
    assert not is_stale(living)
