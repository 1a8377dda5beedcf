"""``kill -9`` at random moments of a campaign with a real code: nothing is lost and nothing is paid for twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from activeph.state import fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger

DATA = Path(__file__).parent / "data" / "kbr"
KILLS = 20


def _start(folder: Path) -> subprocess.Popen[bytes]:
    """Start ``activeph run`` in a process group of its own, as a shell or a scheduler does."""
    program = "from activeph.cli.main import main; main()"
    command = [sys.executable, "-c", program, "run", str(folder / "campaign.yaml"), "--output"]
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen([*command, str(folder / "run")], stdout=log, stderr=log, start_new_session=True)


def _write(folder: Path) -> None:
    folder.mkdir()
    content = {
        "name": "killed",
        "systems": [{"name": "KBr", "structure": str(DATA / "KBr.vasp"), "supercell": [2, 2, 2]}],
        "targets": ["band_gap", "energy_per_atom"],
        "label": {"kind": "xtb"},
        "model": {"kind": "modes-gnn", "members": 2, "gnn": {"steps": 60, "force_weight": 0}},
        "pool": 200,
        "budget": {"labels": 18, "initial": 6, "batch": 3, "repeats": 2},
        "test": {"n": 6},
        "execute": {"kind": "processes", "workers": 2},
    }
    (folder / "campaign.yaml").write_text(yaml.safe_dump(content))


def _outcome(folder: Path) -> tuple[object, ...]:
    state = fold(Journal(folder / "run" / "journal.jsonl").events())
    ledger = Ledger(folder / "run" / "labels")
    contents = {key: (ledger.directory(key) / "arrays.npz").read_bytes() for key in [*ledger.keys()]}
    return state.test, state.picks, state.evaluated, contents


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        _write(folder)
    assert _start(straight).wait(timeout=600) == 0, (straight / "output.log").read_text()

    moments = random.Random(20)
    kills = 0
    while True:
        process = _start(killed)
        # early enough to fall into a step, late enough that something is done between two kills
        deadline = time.monotonic() + (moments.uniform(1.0, 5.0) if kills < KILLS else 600.0)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0, (killed / "output.log").read_text()
    assert kills == KILLS, f"the campaign ended after {kills} kills; give it more to do"

    assert _outcome(killed) == _outcome(straight)
    counts = Counter(one["key"] for one in Ledger(killed / "run" / "labels").calculations())
    assert max(counts.values()) == 1
    assert "is complete" in _said_again(killed)


def _said_again(folder: Path) -> str:
    assert _start(folder).wait(timeout=60) == 0
    return (folder / "output.log").read_text().rsplit("\n\n", 1)[-1]
