"""A campaign on Slurm while things go wrong: nothing is lost, nothing is labelled twice, the reason is told."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase.build import bulk
from ase.io import write

from activeph.build import run_campaign
from activeph.execute.slurm_executor import SlurmExecutor
from activeph.progress import NoProgress
from activeph.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parent))

from conftest import jobs, wait_for  # noqa: E402

SECONDS = 0.7  # of a label
N_LABELS = 36
LOST_AT_MOST = 5  # calculations under way: one of the worker, two of the job, two of the node


def campaign(directory: Path, slurm: SlurmExecutor) -> Path:
    """Return the file of a campaign of slow copper labels that leave notes."""
    write(directory / "Cu.vasp", bulk("Cu", "fcc", 3.61), format="vasp")
    (directory / "notes").mkdir()
    content = {
        "name": "faults",
        "systems": [{"name": "Cu", "structure": "Cu.vasp", "supercell": [2, 2, 2], "force_constants": "from-labeler"}],
        "targets": ["energy_per_atom"],
        "pool": 100,
        "label": {
            "kind": "ase",
            "calculator": "slow_emt:SlowEMT",
            "arguments": {"notes": str(directory / "notes"), "seconds": SECONDS},
        },
        "model": {"kind": "modes", "members": 1},
        "budget": {"labels": 3, "initial": 3, "batch": 3, "repeats": 1},
        "test": {"n": N_LABELS},
        "execute": slurm.model_dump(mode="json"),
    }
    (directory / "campaign.yaml").write_text(yaml.safe_dump(content))
    return directory / "campaign.yaml"


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is lost be noticed in seconds, and draw nothing at the end."""
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    monkeypatch.setattr("activeph.execute.parsl_workers.HEARTBEAT_SECONDS", 2)
    monkeypatch.setattr("activeph.execute.parsl_workers.LOST_SECONDS", 6)
    monkeypatch.setattr("activeph.execute.parsl_workers.QUIET_SECONDS", 1.0)
    monkeypatch.setattr("activeph.execute.slurm_provider.POLL_SECONDS", 2)
    monkeypatch.setattr("activeph.execute.slurm_executor.PAUSE_SECONDS", 1.0)


class Faults(threading.Thread):
    """What befalls the cluster while the campaign runs in the main thread."""

    def __init__(self, cluster: Path, notes: Path) -> None:
        super().__init__(daemon=True)
        self._cluster, self._notes = cluster, notes
        self.done: list[str] = []

    def run(self) -> None:
        for number, fault in enumerate((self.worker_killed, self.job_cancelled, self.node_lost), start=1):
            wait_for(lambda number=number: self._finished() >= 6 * number, 120.0)
            fault()
            self.done.append(fault.__name__)

    def _finished(self) -> int:
        return len(list(self._notes.glob("*-finished")))

    def worker_killed(self) -> None:
        newest = max(self._notes.glob("*-started"), key=lambda path: path.stat().st_mtime_ns)
        os.kill(int(newest.read_text()), signal.SIGKILL)

    def job_cancelled(self) -> None:
        subprocess.run(["scancel", *jobs("running")], check=True)

    def node_lost(self) -> None:
        """Let the node fall silent, what ran on it included; start it again once Slurm has given it up."""
        os.kill(int((self._cluster / "slurmd.pid").read_text()), signal.SIGKILL)
        for pid in block_processes():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "down" in node_state())
        wait_for(lambda: bool(jobs("pending")))
        time.sleep(3.0)
        subprocess.run(["slurmd", "-f", self._cluster / "slurm.conf"], check=True)


def block_processes() -> list[int]:
    """Return the running jobs' own processes on this node: those in whose environment Slurm has put the job."""
    numbers = {f"SLURM_JOB_ID={number}".encode() for number in jobs("running")}
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            variables = set((place / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if variables & numbers:
            found.append(int(place.name))
    return found


def node_state() -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.integration
@pytest.mark.usefixtures("impatience")
def test_a_campaign_goes_on_through_lost_workers_jobs_and_nodes(
    slurm: SlurmExecutor,
    cluster: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = campaign(tmp_path, slurm)
    faults = Faults(cluster, tmp_path / "notes")
    faults.start()
    with caplog.at_level(logging.WARNING, "activeph"):
        run_campaign(file, tmp_path / "run", NoProgress())
    assert faults.done == ["worker_killed", "job_cancelled", "node_lost"]
    assert_each_label_once(tmp_path)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("activeph")]
    assert any("waiting for the scheduler: job" in text and "is pending" in text for text in told), told
    assert any("DOWN" in text or "not available" in text or "ReqNodeNotAvail" in text for text in told), told


class Controller:
    """The cluster's controller, which can be stopped and started."""

    def __init__(self, cluster: Path) -> None:
        self._cluster = cluster

    def stop(self) -> None:
        os.kill(int((self._cluster / "slurmctld.pid").read_text()), signal.SIGTERM)
        wait_for(lambda: not answers())

    def start(self) -> None:
        subprocess.run(["slurmctld", "-f", self._cluster / "slurm.conf"], check=True)
        wait_for(answers)


def answers() -> bool:
    return subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


class Absences(threading.Thread):
    """The controller is away when the campaign starts, and once more while it labels and loses its job."""

    def __init__(self, controller: Controller, notes: Path, told: pytest.LogCaptureFixture) -> None:
        super().__init__(daemon=True)
        self._controller, self._notes, self._told = controller, notes, told
        self.done: list[str] = []

    def run(self) -> None:
        wait_for(lambda: "waiting for the scheduler: Slurm's controller" in self._told.text, 120.0)
        self._controller.start()
        self.done.append("at the start")
        wait_for(lambda: self._finished() >= 6, 120.0)
        pids = block_processes()
        self._controller.stop()
        before = self._finished()
        wait_for(lambda: self._finished() >= before + 4, 120.0)  # labels go on without it
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "no news of the scheduler, running jobs go on" in self._told.text, 120.0)
        time.sleep(5.0)
        self._controller.start()
        self.done.append("while labels ran")

    def _finished(self) -> int:
        return len(list(self._notes.glob("*-finished")))


@pytest.mark.integration
@pytest.mark.usefixtures("impatience")
def test_a_campaign_goes_on_while_the_controller_is_away(
    slurm: SlurmExecutor,
    cluster: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = campaign(tmp_path, slurm)
    controller = Controller(cluster)
    controller.stop()
    absences = Absences(controller, tmp_path / "notes", caplog)
    absences.start()
    try:
        with caplog.at_level(logging.WARNING, "activeph"):
            run_campaign(file, tmp_path / "run", NoProgress())
    finally:
        if not answers():
            controller.start()
    assert absences.done == ["at the start", "while labels ran"]
    assert_each_label_once(tmp_path)


def assert_each_label_once(directory: Path) -> None:
    ledger = Ledger(directory / "run" / "labels")
    ledger.sweep()  # as the next run would: what was killed while it was recorded
    calculations: list[dict[str, Any]] = ledger.calculations()
    assert {calculation["outcome"] for calculation in calculations} == {"label"}
    assert max(Counter(calculation["key"] for calculation in calculations).values()) == 1
    assert len(list(ledger.keys())) == len(calculations) >= N_LABELS
    begun = Counter(path.name.partition(".")[0] for path in (directory / "notes").glob("*-started"))
    assert len(begun) == len(calculations)
    assert sum(begun.values()) <= len(calculations) + LOST_AT_MOST
