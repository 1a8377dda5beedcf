"""A Slurm cluster of one node, and how to look at its jobs."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from activeph.execute.slurm_executor import SlurmExecutor

START = Path(__file__).parents[2] / ".ci" / "start-slurm"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the directory of a cluster that is started for these tests; its programs find it."""
    directory = tmp_path_factory.mktemp("slurm")
    for parent in (directory, *directory.parents[:3]):
        parent.chmod(0o755)  # the authentication service runs as a user of its own
    subprocess.run([START, directory], check=True, stdout=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(directory / "slurm.conf"))
        yield directory
    subprocess.run([START, "stop", directory], check=True)


@pytest.fixture
def slurm(cluster: Path) -> Iterator[SlurmExecutor]:
    """Give an executor on the cluster, which has no jobs before and none after."""
    assert jobs() == []
    yield SlurmExecutor(partition="test", cores_per_node=2, walltime="00:10:00")
    wait_for(lambda: jobs() == [])


@pytest.fixture(scope="session")
def jobs_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


def jobs(states: str = "all") -> list[str]:
    """Return the numbers of the cluster's jobs that have not ended, or of those in some states."""
    wanted = ["--states", states] if states != "all" else []
    command = ["squeue", "-h", "-o", "%i", *wanted]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def wait_for(condition: Callable[[], bool], limit: float = 60.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
