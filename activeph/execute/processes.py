"""Worker processes on this machine, one per core, kept alive between calls."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from activeph.execute.base import Workers
from activeph.execute.environment import available_cores, gpu_environment, worker_environment
from activeph.records import Done, Failed
from activeph.section import Section

LOG_TAIL_BYTES = 4000
STOP_SECONDS = 2.0  # an idle worker ends at once; a busy one is killed after this


class ProcessExecutor(Section):
    """Local processes with pinned numbers of threads."""

    kind: Literal["processes"] = "processes"
    workers: int | None = Field(None, ge=1)
    """Number of processes; by default as many as the available cores allow, each with ``cores_per_label`` of them."""
    cores_per_label: int | None = Field(None, ge=1)
    """Cores that one task keeps busy; by default ``label.cores``."""
    threads: int = Field(1, ge=1)
    """Threads of the numerical libraries in each process."""
    gpus: int = Field(0, ge=0)
    """GPUs of this machine. Every process sees one of them: its own where there are no more processes than GPUs, else
    one that it shares; work goes to processes with different GPUs first."""

    @property
    def n_workers(self) -> int:
        """Number of processes at most."""
        return self.workers or max(1, available_cores() // (self.cores_per_label or 1))

    def start(self, directory: Path | None = None) -> AbstractContextManager[Workers]:
        """Return the workers; processes start when there are tasks, end with the context, and leave no files."""
        return _running(ProcessWorkers(self.n_workers, self.threads, self.gpus))


@contextmanager
def _running(workers: ProcessWorkers) -> Iterator[Workers]:
    try:
        yield workers
    finally:
        workers.stop()


class ProcessWorkers:
    """A set of processes; each holds one task at a time."""

    def __init__(self, n_workers: int, threads: int, gpus: int = 0) -> None:
        self._n_workers = n_workers
        self._threads = threads
        self._gpus = gpus
        self._processes: list[_Process] = []
        self._n_calls = 0

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done | Failed]:
        """Yield outcomes in completion order. A worker that dies fails its own task only and is replaced.

        Functions and tasks travel by pickle. Leaving the iteration early ends the workers that are still busy.
        """
        self._n_calls += 1
        code = pickle.dumps(function)
        waiting = iter(range(len(tasks)))
        busy: dict[Connection, tuple[_Process, int]] = {}
        try:
            while True:
                for process in self._idle(busy, len(tasks)):
                    index = next(waiting, None)
                    if index is None:
                        break
                    busy[process.connection] = (process, index)
                    process.submit(self._n_calls, code, index, tasks[index])
                if not busy:
                    return
                for ready in wait(list(busy)):
                    process, index = busy[ready]  # type: ignore[index]
                    outcome = self._receive(process, index)
                    del busy[process.connection]
                    yield outcome
        finally:
            for process, _ in busy.values():
                self._discard(process)

    def stop(self) -> None:
        """End all processes: idle ones by closing their socket, the rest by force."""
        for process in self._processes:
            process.connection.close()
        for process in self._processes:
            process.end()
        self._processes.clear()

    def _idle(self, busy: dict[Connection, Any], n_tasks: int) -> list[_Process]:
        """Return processes without a task, starting missing ones."""
        taken = {process.rank for process in self._processes}
        free = (rank for rank in range(self._n_workers) if rank not in taken)  # a dead one's GPU goes to its successor
        while len(self._processes) < min(self._n_workers, n_tasks):
            self._processes.append(_Process(next(free), self._threads, self._gpus))
        idle = [process for process in self._processes if process.connection not in busy]
        return sorted(idle, key=lambda process: process.rank)

    def _receive(self, process: _Process, index: int) -> Done | Failed:
        try:
            outcome = pickle.loads(process.connection.recv_bytes())
        except (EOFError, OSError):
            ended = process.describe_end()
            self._discard(process)
            return Failed(index, ended, f"{ended}\nLast lines of its output:\n{process.log_tail()}")
        assert isinstance(outcome, Done | Failed)
        return outcome

    def _discard(self, process: _Process) -> None:
        process.popen.kill()
        process.end()
        if process in self._processes:
            self._processes.remove(process)


class _Process:
    """One worker process and the driver's end of its socket."""

    def __init__(self, rank: int, threads: int, gpus: int) -> None:
        self.rank = rank
        ours, theirs = socket.socketpair()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with theirs:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "activeph.execute.worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env=worker_environment(threads) | gpu_environment(rank, gpus),
            )
        self.connection = Connection(ours.detach())
        self._call = 0
        with suppress(OSError):  # a process that cannot start shows when its first task is waited for
            self.connection.send_bytes(pickle.dumps(sys.path))

    def submit(self, number: int, code: bytes, index: int, task: Any) -> None:
        """Send one task; the function goes along when it is new to this process."""
        message = pickle.dumps((number, None if self._call == number else code, index, pickle.dumps(task)))
        self._call = number
        with suppress(OSError):  # it died while idle: seen when its outcome is waited for
            self.connection.send_bytes(message)

    def describe_end(self) -> str:
        """Return one sentence about how the process ended."""
        try:
            code = self.popen.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "WorkerLost: the worker process closed its connection"
        if code < 0:
            return f"WorkerLost: the worker process died of signal {-code} ({signal.Signals(-code).name})"
        return f"WorkerLost: the worker process ended with exit status {code}"

    def log_tail(self) -> str:
        """Return the end of what the process printed."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES)).decode(errors="replace")

    def end(self) -> None:
        """Wait for the process; end it by force where it does not."""
        try:
            self.popen.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        finally:
            self.connection.close()
