from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from activeph.store.ledger import Ledger
from activeph.store.process import boot, is_running, start_time

LINUX = sys.platform == "linux"


@pytest.fixture
def zombie() -> subprocess.Popen[bytes]:
    """Return a process that has ended and that its parent, this one, has not asked about."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    while LINUX and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    return process


def test_this_process_runs() -> None:
    assert is_running(os.getpid())
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert boot() == boot()


def test_a_zombie_does_not_run(zombie: subprocess.Popen[bytes]) -> None:
    os.kill(zombie.pid, 0)  # its number is still taken
    assert not is_running(zombie.pid)
    assert start_time(zombie.pid) is None
    zombie.wait()
    assert not is_running(zombie.pid)


def test_what_a_zombie_left_in_a_ledger_is_swept(
    zombie: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: zombie.pid)
        left = ledger.workdir("0" * 24)  # held: a context that is dropped tidies up
        left.__enter__()
    assert ledger.running() == []
    assert ledger.sweep() == 1
    assert not [name for name in os.listdir(tmp_path / "00") if name.startswith(".")]
    zombie.wait()
