"""Jobs of Slurm, through Parsl."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from activeph.errors import InputError
from activeph.execute.parsl_executor import Job, PilotExecutor, clock, run_label

CANCEL_SECONDS = 60.0
"""Limit of the wait for cancelled jobs to be gone. On a node that does not answer they never are, but what ran there
has noticed by then that its driver is gone."""
COMMAND_SECONDS = 60
"""Time in which a command of Slurm must answer."""


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

    def check(self) -> None:
        """Raise InputError where Slurm does not answer or the partition does not exist."""
        partitions = ask_slurm(["sinfo", "-h", "-o", "%R"]).split()
        if self.partition is not None and self.partition not in partitions:
            raise InputError(
                f"execute.partition must be one of {', '.join(sorted(set(partitions)))} but got {self.partition!r}; "
                "correct it."
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
        with suppress(InputError):
            return _jobs(run_label(directory))
        return []


def _jobs(label: str) -> list[Job]:
    """Return the user's jobs whose names hold the label."""
    lines = ask_slurm(["squeue", "--me", "-h", "-o", "%i|%T|%r|%j"]).splitlines()
    return [Job(*fields[:3]) for fields in (line.split("|", 3) for line in lines) if label in fields[3]]


def ask_slurm(command: list[str]) -> str:
    """Return what a program of Slurm prints. Raises InputError where there is none or it fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"Slurm must answer {command[0]} but got {error}; run on a host of the cluster.") from error
    if answer.returncode != 0:
        raise InputError(
            f"Slurm must answer {command[0]} but got {answer.stderr.strip()[:200]!r}; ask your administrators."
        )
    return answer.stdout
