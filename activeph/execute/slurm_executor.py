"""Jobs of Slurm, through Parsl."""

from __future__ import annotations

import logging
import re
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Literal

from activeph.errors import InputError, Paused
from activeph.execute.base import Workers
from activeph.execute.parsl_executor import Job, PilotExecutor, clock, run_label, waiting_for

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 60.0
"""Limit of the wait for cancelled jobs to be gone. On a node that does not answer they never are, but what ran there
has noticed by then that its driver is gone."""
COMMAND_SECONDS = 60
"""Time in which a command of Slurm must answer."""
PATIENCE_SECONDS = 600.0  # a controller that is started again or hands over is back by then
PAUSE_SECONDS = 10.0
PASSING = re.compile(
    r"Unable to contact slurm controller|Socket timed out|temporarily unable|Zero Bytes were transmitted|"
    r"Connection (refused|timed out)|connection failure|no answer in",
    re.IGNORECASE,
)
"""What Slurm says of itself that has nothing to do with the job."""


class ControllerAway(Paused):
    """Slurm is there, but its controller does not answer now."""


class SlurmExecutor(PilotExecutor):
    """Jobs of Slurm, each a block of nodes."""

    kind: Literal["slurm"] = "slurm"
    partition: str | None = None
    """Partition to submit to."""
    account: str | None = None
    """Account that pays."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have."""
    exclusive: bool = False
    """Whole nodes."""
    scheduler_options: str = ""
    """Further ``#SBATCH`` lines."""

    def start(self, directory: Path | None = None) -> AbstractContextManager[Workers]:
        """Return workers as :meth:`PilotExecutor.start`, once Slurm's controller answers."""
        await_controller()
        return super().start(directory)

    def check(self, name: str = "execute.partition") -> None:
        """Raise InputError where Slurm does not answer or the partition, called ``name``, does not exist."""
        partitions = ask_slurm(["sinfo", "-h", "-o", "%R"]).split()
        if self.partition is not None and self.partition not in partitions:
            raise InputError(
                f"{name} must be one of {', '.join(sorted(set(partitions)))} but got {self.partition!r}; correct it."
            )

    def _provider(self) -> Any:
        from parsl.launchers import SingleNodeLauncher, SrunLauncher

        from activeph.execute.slurm_provider import PatientSlurmProvider

        return PatientSlurmProvider(
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            constraint=self.constraint,
            nodes_per_block=self.nodes,
            cores_per_node=self.cores_per_node,
            gpus_per_node=self.gpus_per_node or None,
            init_blocks=0,
            min_blocks=0,
            max_blocks=self.blocks,
            walltime=clock(self.walltime),
            exclusive=self.exclusive,
            # a lost job is replaced by a new one; begun again by Slurm there would be two of it
            scheduler_options=f"#SBATCH --no-requeue\n{self.scheduler_options}",
            worker_init=self._worker_init(),
            launcher=SrunLauncher() if self.nodes > 1 else SingleNodeLauncher(),
            cmd_timeout=COMMAND_SECONDS,
        )

    def _cancel(self, label: str) -> None:
        """Cancel all of the run's jobs and wait until they are gone, so that no task is calculated twice at once."""
        end = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < end:
            jobs = _jobs(label)
            if not jobs:
                return
            ask_slurm(["scancel", *(job.number for job in jobs)])
            time.sleep(1.0)

    def jobs(self, directory: Path) -> list[Job]:
        """Return the jobs of a run with this directory; none where Slurm does not answer."""
        with suppress(InputError, ControllerAway):
            return _jobs(run_label(directory))
        return []

    def _explain(self, directory: Path) -> str:
        try:
            return waiting_for(_jobs(run_label(directory)))
        except (InputError, ControllerAway) as error:
            return f"no news of the scheduler, running jobs go on: {error}"


def await_controller() -> None:
    """Wait until Slurm's controller answers. Raises ControllerAway where it does not in ten minutes."""
    end, is_told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            ask_slurm(["sinfo", "-h", "-o", "%R"])
            return
        except ControllerAway as error:
            if time.monotonic() > end:
                raise
            if not is_told:
                logger.warning("waiting for the scheduler: %s", error)
            is_told = True
            time.sleep(PAUSE_SECONDS)


def _jobs(label: str) -> list[Job]:
    """Return the user's jobs whose names hold the label."""
    lines = ask_slurm(["squeue", "--me", "-h", "-o", "%i|%T|%r|%j"]).splitlines()
    return [Job(*fields[:3]) for fields in (line.split("|", 3) for line in lines) if label in fields[3]]


def ask_slurm(command: list[str]) -> str:
    """Return what a program of Slurm prints.

    Raises InputError where there is none or it fails, ControllerAway where that may pass by itself.
    """
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _away(command, f"no answer in {COMMAND_SECONDS} s") from None
    except OSError as error:
        raise InputError(f"Slurm must answer {command[0]} but got {error}; run on a host of the cluster.") from error
    if answer.returncode == 0:
        return answer.stdout
    said = answer.stderr.strip()[:200]
    if PASSING.search(said):
        raise _away(command, said)
    raise InputError(f"Slurm must answer {command[0]} but got {said!r}; ask your administrators.")


def _away(command: list[str], said: str) -> ControllerAway:
    return ControllerAway(
        f"Slurm's controller must answer {command[0]} but got {said!r}; run again when it is back, nothing is lost."
    )
