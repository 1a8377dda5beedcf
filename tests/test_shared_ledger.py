"""Campaigns that share a ledger share the work: nothing is calculated twice, and nobody waits for the dead."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import write

from activeph.calculation import LabelTask, Taken, calculate
from activeph.execute.serial import SerialWorkers
from activeph.label.ase_calculator import AseLabeler
from activeph.labelling import obtain
from activeph.records import Configuration, Label
from activeph.state import fold
from activeph.store import claims as claims_module
from activeph.store.claims import Claims
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger, label_key
from activeph.store.lock import identity

EMT = AseLabeler(calculator="ase.calculators.emt:EMT")
N_TEST, SECONDS = 24, 0.4
UNSHARE = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
IMPATIENT = """
from activeph.store import claims, work
claims.LOST_SECONDS = work.LOST_SECONDS = 5.0
claims.BEAT_SECONDS = 0.5
"""


def copper(n: int) -> list[Configuration]:
    rng = np.random.default_rng(0)
    crystal = bulk("Cu", "fcc", 3.6, cubic=True)
    numbers, cell = crystal.numbers.astype(np.int64), crystal.cell.array
    return [Configuration(numbers, crystal.positions + rng.normal(scale=0.05, size=(4, 3)), cell) for _ in range(n)]


def test_a_worker_leaves_alone_what_another_has_claimed(tmp_path: Path) -> None:
    (configuration,) = copper(1)
    ledger, key = Ledger(tmp_path), label_key(configuration, EMT.fingerprint)
    task = LabelTask(EMT, configuration, key, ledger)
    with Ledger(tmp_path).claims.hold(key):
        assert calculate(task) == Taken(f"process {os.getpid()} on host {os.uname().nodename}")
    assert ledger.attempts() == []
    assert calculate(task) is None
    assert ledger.state(key) == "label"


@pytest.mark.parametrize("is_recorded", [True, False])
def test_the_others_result_is_taken_or_the_calculation_made_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_recorded: bool
) -> None:
    monkeypatch.setattr("activeph.labelling.POLL_SECONDS", 0.02)
    configurations = copper(3)
    mine, theirs = (Ledger(tmp_path / "labels", tmp_path / name) for name in ("mine", "theirs"))
    key = label_key(configurations[1], EMT.fingerprint)
    label = EMT.label(configurations[1], tmp_path)
    held, seen = threading.Event(), []

    def other() -> None:
        with theirs.claims.hold(key):
            held.set()
            end = time.monotonic() + 30
            while len(list(theirs.keys())) < 2 or "waiting for" not in caplog.text:
                assert time.monotonic() < end
                time.sleep(0.01)
            if is_recorded:
                theirs.put(key, configurations[1], label)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    with caplog.at_level(logging.WARNING, "activeph"):
        found = obtain(EMT, configurations, mine, SerialWorkers(), seen.append)
    thread.join()
    assert list(found) == [label_key(each, EMT.fingerprint) for each in configurations]
    assert all(isinstance(each, Label) for each in found.values())
    assert "waiting for 1 calculation of another campaign, the first by process" in caplog.text
    assert {one.key: one.is_new for one in seen}[key] is not is_recorded
    assert len(mine.calculations()) == (2 if is_recorded else 3)


def test_a_lost_host_is_waited_for_no_longer_than_it_may_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activeph.labelling.POLL_SECONDS", 0.05)
    monkeypatch.setattr(claims_module, "LOST_SECONDS", 1.5)
    configurations, ledger = copper(2), Ledger(tmp_path / "labels")
    key = label_key(configurations[0], EMT.fingerprint)
    ledger.claims.directory.mkdir(parents=True)
    (ledger.claims.directory / f"{key}@000000000000").symlink_to(json.dumps(identity() | {"host": "lost-host"}))
    begun = time.monotonic()
    found = obtain(EMT, configurations, ledger, SerialWorkers())
    assert time.monotonic() - begun > 1.0
    assert all(isinstance(each, Label) for each in found.values())
    assert os.listdir(ledger.claims.directory) == []


def campaign(folder: Path, name: str, n_test: int = N_TEST, seconds: float = SECONDS) -> Path:
    """Write a campaign of slow copper labels that leave notes, with a ledger that others have too."""
    path = folder / f"{name}.yaml"
    content = {
        "name": name,
        "seed": 1,  # the same for all: they want the same labels
        "systems": [{"name": "Cu", "structure": "Cu.vasp", "supercell": [2, 2, 2]}],
        "targets": ["energy_per_atom"],
        "pool": 50,
        "label": {
            "kind": "ase",
            "calculator": "slow_emt:SlowEMT",
            "arguments": {"notes": str(folder / "notes"), "seconds": seconds},
        },
        "model": {"kind": "modes", "members": 1},
        "budget": {"labels": 6, "initial": 3, "batch": 3, "repeats": 1},
        "test": {"n": n_test},
        "execute": {"kind": "processes", "workers": 2},
        "ledger": "labels",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def start(path: Path, host: str | None = None, log: str = ".log") -> subprocess.Popen[bytes]:
    """Start the driver of a campaign, on a host of that name where one is given: with processes of its own, that die
    with it, and of which nobody else knows.
    """
    command = [sys.executable, "-c", "from activeph.cli.main import main; main()", "run", str(path), "--output"]
    command.append(str(path.with_suffix("")))
    if host is not None:
        command = [*UNSHARE, "sh", "-c", f'hostname {host} && exec "$@"', "sh", *command]
    places = [str(path.parent), str(Path(__file__).parent / "execute"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    with path.with_suffix(log).open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)


def begun(folder: Path) -> Counter[str]:
    """Return how often each calculation was begun."""
    return Counter(path.name.partition(".")[0] for path in (folder / "notes").glob("*-started"))


def outcomes(folder: Path, name: str) -> Counter[str]:
    """Return how often each outcome is in the account of a campaign."""
    attempts = Ledger(folder / "labels", folder / name / "calculations").attempts()
    return Counter(one["outcome"] for one in attempts)


@pytest.fixture
def two_campaigns(tmp_path: Path) -> tuple[Path, Path]:
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", 3.61), format="vasp")
    (tmp_path / "notes").mkdir()
    first, second = (campaign(tmp_path, name) for name in ("first", "second"))
    return first, second


@pytest.mark.slow
def test_two_drivers_at_once_calculate_each_label_once(two_campaigns: tuple[Path, Path], tmp_path: Path) -> None:
    drivers = [start(path) for path in two_campaigns]
    assert [driver.wait(timeout=300) for driver in drivers] == [0, 0], (tmp_path / "first.log").read_text()
    ledger = Ledger(tmp_path / "labels")
    counts = begun(tmp_path)
    assert set(counts.values()) == {1}
    assert len(counts) == len(list(ledger.keys())) >= N_TEST
    accounts = [Ledger(ledger.root, tmp_path / name / "calculations").calculations() for name in ("first", "second")]
    assert sum(len(account) for account in accounts) == len(counts)
    assert all({one["outcome"] for one in account} == {"label"} for account in accounts)  # both had a share
    states = [fold(Journal(tmp_path / name / "journal.jsonl").events()) for name in ("first", "second")]
    assert states[0].picks == states[1].picks
    assert states[0].evaluated == states[1].evaluated
    assert os.listdir(ledger.claims.directory) == []


@pytest.mark.slow
def test_a_killed_driver_is_not_waited_for(two_campaigns: tuple[Path, Path], tmp_path: Path) -> None:
    drivers = [start(path) for path in two_campaigns]
    end = time.monotonic() + 120
    while sum(begun(tmp_path).values()) < 8:
        assert time.monotonic() < end
        time.sleep(0.05)
    drivers[0].send_signal(signal.SIGKILL)
    drivers[0].wait()
    assert drivers[1].wait(timeout=300) == 0, (tmp_path / "second.log").read_text()
    keys = list(Ledger(tmp_path / "labels").keys())
    counts = begun(tmp_path)
    assert len(counts) == len(keys) >= N_TEST
    assert sum(counts.values()) <= len(keys) + 2  # what the two workers of the killed driver were at
    left = [path for path in (tmp_path / "labels").glob("*/.*") if "@first-" in path.name]
    assert left
    assert "lost" not in outcomes(tmp_path, "second")
    assert start(two_campaigns[0]).wait(timeout=300) == 0
    assert begun(tmp_path) == counts
    assert outcomes(tmp_path, "first")["lost"] == len(left)  # the dead are paid by their own campaign
    assert list((tmp_path / "labels").glob("*/.*")) == []


@pytest.fixture
def two_hosts(tmp_path: Path) -> tuple[Path, Path]:
    """Give two campaigns whose labels take longer than a host may be silent."""
    if subprocess.run([*UNSHARE, "hostname", "node-a"], capture_output=True, check=False).returncode:
        pytest.skip("hosts of one's own are not permitted here")
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", 3.61), format="vasp")
    (tmp_path / "notes").mkdir()
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)  # read by drivers and workers when they start
    first, second = (campaign(tmp_path, name, n_test=10, seconds=7.0) for name in ("first", "second"))
    return first, second


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def refused(path: Path, host: str) -> str:
    """Return what a driver says that finds its run directory taken."""
    driver = start(path, host, ".refused")
    assert driver.wait(timeout=300) == 2
    return path.with_suffix(".refused").read_text()


@pytest.mark.slow
@pytest.mark.integration
def test_drivers_on_two_hosts_calculate_each_label_once(two_hosts: tuple[Path, Path], tmp_path: Path) -> None:
    drivers = [start(path, host) for path, host in zip(two_hosts, ("node-a", "node-b"), strict=True)]
    wait_for(lambda: begun(tmp_path).total() > 0)
    assert "must have one driver but got a second: process 1 on host node-a" in refused(two_hosts[0], "node-b")
    assert [driver.wait(timeout=300) for driver in drivers] == [0, 0], (tmp_path / "first.log").read_text()
    counts = begun(tmp_path)
    assert set(counts.values()) == {1}
    assert len(counts) == len(list(Ledger(tmp_path / "labels").keys()))
    for name, host in (("first", "node-a"), ("second", "node-b")):
        assert set(outcomes(tmp_path, name)) == {"label"}
        assert {path.name.rpartition("-")[0] for path in (tmp_path / name / "calculations").iterdir()} == {host}
    assert os.listdir(tmp_path / "labels" / "claims") == []


@pytest.mark.slow
@pytest.mark.integration
def test_what_a_lost_host_was_at_is_taken_over(two_hosts: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = two_hosts
    drivers = [start(first, "node-a"), start(second, "node-b")]
    claims = tmp_path / "labels" / "claims"

    def held_by(host: str) -> int:
        return sum(claim.holder["host"] == host for claim in Claims(claims).living().values())

    def are_all_at_work() -> bool:
        is_held = claims.exists() and held_by("node-a") == 2 and held_by("node-b") == 2
        return is_held and begun(tmp_path).total() - len(list((tmp_path / "notes").glob("*-finished"))) == 4

    wait_for(are_all_at_work)
    drivers[0].kill()  # all of its processes die with it, and their claims stay
    drivers[0].wait()
    left = [path for path in (tmp_path / "labels").glob("*/.*") if "@node-a." in path.name]
    assert "process 1 on host node-a" in refused(first, "node-b")  # which cannot know whether node-a lives
    assert drivers[1].wait(timeout=300) == 0, (tmp_path / "second.log").read_text()
    counts, n_keys = begun(tmp_path), len(list(Ledger(tmp_path / "labels").keys()))
    assert len(counts) == n_keys
    assert counts.total() == n_keys + 2  # what the two workers of node-a were at
    assert os.listdir(claims) == []
    assert set(outcomes(tmp_path, "second")) == {"label"}
    assert start(first, "node-a").wait(timeout=300) == 0, (tmp_path / "first.log").read_text()
    assert begun(tmp_path) == counts
    assert outcomes(tmp_path, "first")["lost"] == len(left) == 2
    assert list((tmp_path / "labels").glob("*/.*")) == []
