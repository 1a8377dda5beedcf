"""Executors beyond one machine, through Parsl. Y. Babuji et al., HPDC 2019, doi:10.1145/3307681.3325400."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints

from activeph.errors import InputError, Paused
from activeph.execute.base import Workers
from activeph.section import Section

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$")]


class Job(NamedTuple):
    """A job as its scheduler sees it."""

    number: str
    state: str  # RUNNING, PENDING, ...
    reason: str  # why it does not run


def waiting_for(jobs: Sequence[Job]) -> str:
    """Return one line about why tasks wait, nothing where a job runs or none is known."""
    if not jobs or any(job.state == "RUNNING" for job in jobs):
        return ""
    told = ", ".join(f"job {job.number} is {job.state.lower()} ({job.reason})" for job in jobs)
    return f"waiting for the scheduler: {told}"


class PilotExecutor(Section):
    """What all of Parsl's providers share: blocks of nodes in which workers fetch task after task."""

    nodes: int = Field(1, ge=1)
    """Nodes of one block, that is of one job."""
    blocks: int = Field(1, ge=1)
    """Jobs at a time, at most."""
    cores_per_node: int | None = Field(None, ge=1)
    """Cores to ask for on each node; by default whatever the scheduler gives, and one task at a time."""
    cores_per_label: int | None = Field(None, ge=1)
    """Cores of one task, which decide how many run on a node at once; by default ``label.cores``."""
    gpus_per_node: int = Field(0, ge=0)
    """GPUs of each node. Every worker sees one of them: its own where there are no more workers than GPUs, else one
    that it shares with as few others as can be."""
    walltime: Duration = "24:00:00"
    """Length of a job."""
    reserve: Duration | None = None
    """Time at the end of a job in which no task is begun: at least as long as a label takes, which is checked where
    there is a ``label.timeout``. Default: a quarter of the walltime."""
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
        from activeph.execute.parsl_workers import parsl_workers

        directory.mkdir(parents=True, exist_ok=True)
        self._cancel(run_label(directory))  # blocks of a driver that was killed

        def explain() -> str:
            return self._explain(directory)

        try:
            with parsl_workers(self._provider(), directory, self._options(), self.gpus_per_node, explain) as workers:
                yield workers
        finally:
            with suppress(InputError, Paused):  # a scheduler that does not answer; jobs notice that nobody is there
                self._cancel(run_label(directory))

    def _explain(self, directory: Path) -> str:
        return waiting_for(self.jobs(directory))

    def jobs(self, directory: Path) -> list[Job]:
        """Return the jobs of a run with this directory, as far as the scheduler can be asked."""
        return []

    @property
    def label_seconds(self) -> int:
        """How long a label may take that is begun at the last moment."""
        return seconds(self.reserve) if self.reserve else seconds(self.walltime) // 4

    @property
    def workers_per_node(self) -> int:
        """How many tasks run on a node at once."""
        return max(1, (self.cores_per_node or 1) // (self.cores_per_label or 1))

    def _options(self) -> dict[str, Any]:
        return {
            "max_workers_per_node": self.workers_per_node,
            "drain_period": max(1, seconds(self.walltime) - self.label_seconds),
            "address": self.address,
        }

    def _worker_init(self) -> str:
        from activeph.execute.parsl_workers import shell_environment

        return f"{shell_environment(1)}\n{self.worker_init}"

    def _provider(self) -> Any:
        raise InputError(f"execute.kind must be slurm or parsl but got {type(self).__name__}; choose one of them.")

    def _cancel(self, label: str) -> None:
        """End jobs that carry the label, where the scheduler can be asked for names."""


class ParslExecutor(PilotExecutor):
    """Any other provider of Parsl: PBS, LSF, Grid Engine, Kubernetes, this machine."""

    kind: Literal["parsl"] = "parsl"
    provider: str = Field(pattern=r"^[\w.]+:\w+$")
    """Import path, such as ``parsl.providers:PBSProProvider``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its arguments as Parsl documents them: queue, account, scheduler options."""
    launcher: str | None = Field(None, pattern=r"^[\w.]+:\w+$")
    """Import path of what starts the workers on every node of a block, such as ``parsl.launchers:MpiExecLauncher``;
    needed with several nodes."""
    launcher_options: dict[str, Any] = Field(default_factory=dict)
    """Its arguments as Parsl documents them."""

    def check(self) -> None:
        """Raise InputError where provider or launcher cannot be made."""
        self._provider()

    def _provider(self) -> Any:
        common = {
            "nodes_per_block": self.nodes,
            "init_blocks": 0,
            "min_blocks": 0,
            "max_blocks": self.blocks,
            "walltime": clock(self.walltime),
            "worker_init": self._worker_init(),
        }
        if self.launcher is not None:
            common["launcher"] = _made("launcher", self.launcher, {}, self.launcher_options, "launcher_options")
        return _made("provider", self.provider, common, self.options, "options")


def _made(key: str, path: str, common: dict[str, Any], options: dict[str, Any], options_key: str) -> Any:
    """Return an object of Parsl made with those of ``common`` that it knows and with all ``options``."""
    module, _, name = path.partition(":")
    try:
        maker = getattr(importlib.import_module(module), name)
        known = inspect.signature(maker).parameters
        given = {name: _with_tuples(value) for name, value in options.items()}
        return maker(**{name: value for name, value in common.items() if name in known} | given)
    except Exception as error:  # whatever a provider thinks of its arguments
        raise InputError(
            f"execute.{key} must be a {key} of Parsl with fitting options but got {path!r} "
            f"({error}); correct execute.{key} or execute.{options_key}."
        ) from error


def _with_tuples(value: Any) -> Any:
    """Return a list of lists, which is how YAML writes them, as the list of tuples that Parsl wants."""
    return [tuple(item) if isinstance(item, list) else item for item in value] if isinstance(value, list) else value


def run_label(directory: Path) -> str:
    """Return the name of a run's executor: it is in the names of its jobs, by which a later driver finds them."""
    return f"activeph-{hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:10]}"


def seconds(duration: str) -> int:
    """Return the seconds of ``days-hours:minutes:seconds``; the days may be missing."""
    days, hours, minutes, rest = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", duration).groups(default="0")  # type: ignore[union-attr]
    return ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(rest)


def clock(duration: str) -> str:
    """Return a duration as Parsl reads it, hours and minutes without days; begun minutes are whole ones."""
    minutes = max(1, -(-seconds(duration) // 60))
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
