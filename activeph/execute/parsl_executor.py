"""Executors beyond one machine, through Parsl. Y. Babuji et al., HPDC 2019, doi:10.1145/3307681.3325400."""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from activeph.errors import InputError
from activeph.execute.base import Workers
from activeph.section import Section

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$")]
CANCEL_SECONDS = 60.0


class PilotExecutor(Section):
    """What all of Parsl's providers share: blocks of nodes in which workers fetch task after task."""

    nodes: int = Field(1, ge=1)
    """Nodes of one block, that is of one job."""
    blocks: int = Field(1, ge=1)
    """Jobs at a time, at most."""
    cores_per_node: int | None = Field(None, ge=1)
    """Cores to ask for on each node; by default whatever the scheduler gives, and one task at a time."""
    cores_per_label: int = Field(1, ge=1)
    """Cores of one task; give the labeler the same number as ``cores``."""
    gpus_per_node: int = Field(0, ge=0)
    """Accelerators to share out among the workers of a node."""
    walltime: Duration = "24:00:00"
    """Length of a job."""
    reserve: Duration | None = None
    """Time at the end of a job in which no task is begun: at least as long as a label takes. Default: a quarter."""
    worker_init: str = ""
    """Shell lines that prepare a job, such as ``module load``."""
    address: str | None = None
    """Name or number by which jobs reach the driver's host; found by trial where not given."""

    def start(self, directory: Path | None = None) -> AbstractContextManager[Workers]:
        """Return workers; jobs are submitted when there are tasks.

        ``directory`` must be on a file system that all nodes see; jobs that an earlier driver with the same directory
        left behind are ended first. Raises InputError where Parsl or the scheduler is missing.
        """
        if find_spec("parsl") is None:
            raise InputError("execute.kind must have the package parsl but got none; install activeph[parsl].")
        self.check()
        return self._running(directory or Path(tempfile.mkdtemp(prefix="activeph-jobs-")))

    def check(self) -> None:
        """Raise InputError where the scheduler cannot be used."""

    @contextmanager
    def _running(self, directory: Path) -> Iterator[Workers]:
        from activeph.execute.parsl_workers import parsl_workers, run_label

        directory.mkdir(parents=True, exist_ok=True)
        self._cancel(run_label(directory))  # blocks of a driver that was killed
        try:
            with parsl_workers(self._provider(), directory, self._options()) as workers:
                yield workers
        finally:
            self._cancel(run_label(directory))

    def _options(self) -> dict[str, Any]:
        total = seconds(self.walltime)
        reserve = seconds(self.reserve) if self.reserve else total // 4
        options: dict[str, Any] = {
            "max_workers_per_node": max(1, (self.cores_per_node or 1) // self.cores_per_label),
            "drain_period": max(1, total - reserve),
            "address": self.address,
        }
        if self.gpus_per_node:
            options["available_accelerators"] = self.gpus_per_node
        return options

    def _worker_init(self) -> str:
        from activeph.execute.parsl_workers import shell_environment

        return f"{shell_environment(1)}\n{self.worker_init}"

    def _provider(self) -> Any:
        raise InputError(f"execute.kind must be slurm or parsl but got {type(self).__name__}; choose one of them.")

    def _cancel(self, label: str) -> None:
        """End jobs that carry the label, where the scheduler can be asked for names."""


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
            init_blocks=0,
            min_blocks=0,
            max_blocks=self.blocks,
            walltime=self.walltime,
            exclusive=self.exclusive,
            scheduler_options=self.scheduler_options,
            worker_init=self._worker_init(),
            launcher=SrunLauncher() if self.nodes > 1 else SingleNodeLauncher(),
            cmd_timeout=60,
        )

    def _cancel(self, label: str) -> None:
        """Cancel all of the run's jobs and wait until they are gone, so that no task is calculated twice at once."""
        end = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < end:
            lines = [line.split(maxsplit=1) for line in ask_slurm(["squeue", "--me", "-h", "-o", "%i %j"]).splitlines()]
            jobs = [job for job, name in lines if label in name]
            if not jobs:
                return
            ask_slurm(["scancel", *jobs])
            time.sleep(1.0)


class ParslExecutor(PilotExecutor):
    """Any other provider of Parsl: PBS, LSF, Grid Engine, Kubernetes, this machine."""

    kind: Literal["parsl"] = "parsl"
    provider: str = Field(pattern=r"^[\w.]+:\w+$")
    """Import path, such as ``parsl.providers:PBSProProvider``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its arguments as Parsl documents them: queue, account, scheduler options."""

    def _provider(self) -> Any:
        import inspect

        module, _, name = self.provider.partition(":")
        try:
            maker = getattr(importlib.import_module(module), name)
            known = inspect.signature(maker).parameters
            common = {
                "nodes_per_block": self.nodes,
                "init_blocks": 0,
                "min_blocks": 0,
                "max_blocks": self.blocks,
                "walltime": self.walltime,
                "worker_init": self._worker_init(),
            }
            return maker(**{key: value for key, value in common.items() if key in known} | self.options)
        except (ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"execute.provider must be a provider of Parsl with fitting options but got {self.provider!r} "
                f"({error}); correct execute.provider or execute.options."
            ) from error


def seconds(duration: str) -> int:
    """Return the seconds of ``days-hours:minutes:seconds``; the days may be missing."""
    days, hours, minutes, rest = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", duration).groups(default="0")  # type: ignore[union-attr]
    return ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(rest)


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
