"""A campaign on a file system that runs full or becomes read-only: nothing is lost, and the reason is told."""

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
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

HERE = str(Path(__file__).parent / "execute")  # with a slow calculator
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
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


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


def make_immutable(run: Path, is_so: bool) -> None:
    """Forbid every change below the labels, as a permission that was taken away does to others than root."""
    flag = "+i" if is_so else "-i"
    subprocess.run(["chattr", flag, run / "labels"], check=True, capture_output=True)
    # claims are symbolic links, which have no flags; other files may end meanwhile
    everything = ["find", run / "labels", "!", "-type", "l", "-exec", "chattr", flag, "{}", "+"]
    subprocess.run(everything, check=False, capture_output=True)


def remount(run: Path, is_so: bool) -> None:
    """Make the whole run directory read-only, in spite of the files that are open there."""
    if is_so:
        subprocess.run(["mount", "--bind", run, run], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", run], check=True, capture_output=True)
    else:
        subprocess.run(["umount", run], check=True)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize(
    ("forbid", "reason"), [(make_immutable, "Operation not permitted"), (remount, "Read-only file system")]
)
def test_a_directory_that_becomes_read_only_while_labels_run_pauses_the_campaign(
    tmp_path: Path, forbid: Callable[[Path, bool], None], reason: str
) -> None:
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", 3.61), format="vasp")
    (tmp_path / "notes").mkdir()
    arguments = {"notes": str(tmp_path / "notes"), "seconds": 0.3}
    slow = {"kind": "ase", "calculator": "slow_emt:SlowEMT", "arguments": arguments}
    budget = {"labels": 6, "initial": 3, "batch": 3, "repeats": 1}
    content = CONTENT | {"label": slow, "budget": budget, "model": {"kind": "modes", "members": 1}}
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(content))
    straight, run = tmp_path / "straight", tmp_path / "run"
    driver = begin(tmp_path, straight)
    assert driver.wait() == 0, driver.communicate()[0]

    driver = begin(tmp_path, run)
    end = time.monotonic() + 300
    while not (run / "labels").exists() or len(labels_of(run)) < 8:
        assert time.monotonic() < end
        time.sleep(0.05)
    try:
        forbid(run, True)
    except subprocess.CalledProcessError as error:
        driver.kill()
        pytest.skip(f"not permitted here: {error.stderr}")
    try:
        said = driver.communicate(timeout=300)[0]
    finally:
        forbid(run, False)
    assert driver.returncode == 3, said
    assert re.search(rf"cannot be written.*{reason}.*run again", said), said
    assert "Traceback" not in said, said
    known = labels_of(run)

    driver = begin(tmp_path, run)
    assert driver.wait() == 0, driver.communicate()[0]
    assert known.items() <= labels_of(run).items()
    mine, other = state_of(run), state_of(straight)
    assert (mine.test, mine.picks, mine.evaluated) == (other.test, other.picks, other.evaluated)
    assert labels_of(run) == labels_of(straight)
    attempts = Ledger(run / "labels").attempts()
    counts = Counter(one["key"] for one in attempts if one["outcome"] == "label")
    assert max(counts.values()) == 1
    assert list((run / "labels").glob("*/.*")) == []
