"""A whole campaign on a file system that runs full at random moments: nothing is lost, and the reason is told."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ase.build import bulk
from ase.io import write

from activeph.errors import Paused
from activeph.execute.serial import SerialWorkers
from activeph.progress import NoProgress
from activeph.proposal import run_all
from activeph.state import State, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger

FULL = "No space left on device"
TIMES = 5
CONTENT = {
    "name": "full",
    "systems": [{"name": "Cu", "structure": "Cu.vasp", "supercell": [2, 2, 2]}],
    "targets": ["energy_per_atom", "hydrostatic_stress"],
    "pool": 100,
    "label": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
    "model": {"kind": "modes", "members": 3},
    "budget": {"labels": 24, "initial": 4, "batch": 4, "repeats": 3},
    "test": {"n": 20},
    "execute": {"kind": "processes", "workers": 2},
}


def out_of_room(task: int) -> None:
    raise OSError(28, FULL, "member-0.pt")


def test_a_worker_without_room_pauses_the_campaign() -> None:
    with pytest.raises(Paused, match=rf"step 'training' must write its files but got .*{FULL}.*run again"):
        run_all(SerialWorkers(), out_of_room, [1], "training", NoProgress())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 40 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def begin(folder: Path, run: Path) -> subprocess.Popen[str]:
    program = "from activeph.cli.main import main; main()"
    command = [sys.executable, "-c", program, "run", str(folder / "campaign.yaml"), "--output", str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def fill(disk: Path) -> None:
    """Take all the room there is."""
    with (disk / "filler").open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(65536))
        except OSError:
            return


def state_of(run: Path) -> State:
    return fold(Journal(run / "journal.jsonl").events())


def labels_of(run: Path) -> dict[str, bytes]:
    ledger = Ledger(run / "labels")
    return {key: (ledger.directory(key) / "arrays.npz").read_bytes() for key in [*ledger.keys()]}


@pytest.mark.integration
@pytest.mark.slow
def test_a_campaign_on_a_disk_that_runs_full_ends_the_same(small_disk: Path, tmp_path: Path) -> None:
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", 3.61), format="vasp")
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CONTENT))
    straight, run = tmp_path / "straight", small_disk / "run"
    driver = begin(tmp_path, straight)
    begun = time.monotonic()
    assert driver.wait() == 0, driver.communicate()[0]
    whole = time.monotonic() - begun

    moments, stops = random.Random(7), 0
    known: dict[str, bytes] = {}
    while True:
        driver = begin(tmp_path, run)
        if stops < TIMES:
            time.sleep(moments.uniform(0.1, 0.7) * whole)
            fill(small_disk)
        said = driver.communicate(timeout=600)[0]
        if driver.returncode == 0:
            break
        stops += 1
        assert driver.returncode == 3, said
        assert FULL in said, said
        assert "run again" in said, said
        assert "Traceback" not in said, said
        (small_disk / "filler").unlink()
        found = labels_of(run) if (run / "labels").exists() else {}
        assert known.items() <= found.items()  # nothing that was there is lost
        known = found
    assert stops >= 2, "the campaign was never in want of room; give it more to do"
    mine, other = state_of(run), state_of(straight)
    assert (mine.test, mine.picks, mine.evaluated) == (other.test, other.picks, other.evaluated)
    assert labels_of(run) == labels_of(straight)
    counts = Counter(one["key"] for one in Ledger(run / "labels").calculations())
    assert max(counts.values()) == 1
