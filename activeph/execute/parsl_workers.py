"""Running tasks through Parsl's HighThroughputExecutor: pilot jobs ("blocks") whose workers fetch tasks.

Imported when such an executor starts, never before.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.jobs.states import JobState, JobStatus

from activeph.errors import Paused
from activeph.execute.environment import gpu_environment, worker_environment
from activeph.execute.parsl_executor import run_label
from activeph.execute.serial import call
from activeph.records import Done, Failed

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
LOST_SECONDS = 30  # a manager that hears nothing for so long ends its block: also after the driver was killed
QUIET_SECONDS = 60.0  # without an outcome, after which the scheduler is asked
RETRIES = 3  # of a task whose block was lost: not its fault
USELESS_JOBS = 3  # in a row: after these something is wrong that more jobs do not mend
FAILED = frozenset({JobState.FAILED, JobState.MISSING})  # MISSING: ended before a worker had reported


def shell_environment(threads: int) -> str:
    """Return shell lines that prepare a block: this interpreter and its modules first, pinned threads."""
    lines = [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    own = [place for place in sys.path if place and not place.startswith((sys.prefix, sys.base_prefix))]
    if own:
        lines.append(f"export PYTHONPATH={shlex.quote(os.pathsep.join(own))}")
    lines += [f"export {name}={value}" for name, value in worker_environment(threads, {}).items()]
    return "\n".join(lines)


@contextmanager
def parsl_workers(
    provider: Any, directory: Path, options: Mapping[str, Any], gpus_per_node: int, explain: Callable[[], str]
) -> Iterator[ParslWorkers]:
    """Give workers of the blocks that a provider starts; logs and job scripts go to ``directory``.

    ``options`` go to HighThroughputExecutor: workers per node, drain period, address. GPUs are shared out by
    :func:`run_task`: Parsl's own way lets no more workers run than there are GPUs. ``explain`` says what the scheduler
    keeps tasks waiting for, or nothing.
    """
    logging.getLogger("parsl").setLevel(logging.ERROR)
    executor = HighThroughputExecutor(
        label=run_label(directory),
        provider=provider,
        heartbeat_period=HEARTBEAT_SECONDS,
        heartbeat_threshold=LOST_SECONDS,
        block_error_handler=give_up_after_useless_jobs,
        # the interchange must not outlive a driver that is killed: it would keep the blocks busy
        interchange_launch_cmd=[sys.executable, "-m", "activeph.execute.die_with_parent", "interchange.py"],
        encrypted=False,
        **options,
    )
    config = Config(
        executors=[executor],
        run_dir=str(directory),
        retries=RETRIES,
        retry_handler=_cost,
        strategy="simple",
        strategy_period=1.0,
        exit_mode="skip",
        initialize_logging=True,
        usage_tracking=0,
    )
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{path}"  # where interchange.py is
    try:
        kernel = DataFlowKernel(config)
    finally:
        os.environ["PATH"] = path
    try:
        yield ParslWorkers(kernel, gpus_per_node, explain)
    finally:
        getattr(provider, "leave", lambda: None)()
        kernel.cleanup()


def _cost(error: Exception, task: Any) -> float:
    """Return what a failed try costs of the retries: a lost block one, whatever the task may be to blame for all."""
    return 1.0 if isinstance(error, ManagerLost) else RETRIES + 1.0


def give_up_after_useless_jobs(executor: Any, jobs: dict[str, JobStatus]) -> None:
    """Fail all tasks where no job is left and the last ones failed, or were refused, before a worker had reported.

    A job that has worked counts as good however it ended: its tasks have a limited number of tries of their own.
    """
    last = sorted(jobs, key=int)[-USELESS_JOBS:]
    if len(last) < USELESS_JOBS or any(not job.terminal for job in jobs.values()):
        return
    if all(jobs[block].state in FAILED for block in last) and not set(executor.connected_blocks()).intersection(last):
        executor.set_bad_state_and_fail_all(RuntimeError(_reason(jobs[last[-1]])))


def _reason(job: JobStatus) -> str:
    """Return what is known of the end of a job in one line."""
    told = [job.message, job.stderr_summary, job.stdout_summary]
    words = " ".join(" ".join(text.split()) for text in told if text)
    where = f" (more in {job.stderr_path})" if job.stderr_path else ""
    return f"{USELESS_JOBS} jobs in a row ended before they began to work; the last says: {words[-400:]!r}{where}"


def run_task(gpus_per_node: int, function: Callable[[Any], Any], task: Any, index: int) -> Done | Failed:
    """Run a task in a worker of a block, which sees the GPU that is its own."""
    os.environ.update(gpu_environment(int(os.environ.get("PARSL_WORKER_RANK", "0")), gpus_per_node))
    return call(function, task, index)


class ParslWorkers:
    """Blocks of a scheduler; they come and go while tasks wait."""

    def __init__(self, kernel: DataFlowKernel, gpus_per_node: int, explain: Callable[[], str]) -> None:
        self._kernel = kernel
        self._gpus_per_node = gpus_per_node
        self._explain = explain
        self._told = ""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done | Failed]:
        """Yield outcomes in completion order. A task whose block is lost runs again elsewhere, three times at most.

        Leaving the iteration early lets the tasks that were handed over finish; their outcomes are dropped. What the
        scheduler keeps tasks waiting for is logged. Raises Paused where the scheduler takes no jobs.
        """
        finished: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()
        for index, task in enumerate(tasks):
            future = self._kernel.submit(
                run_task,
                app_args=(self._gpus_per_node, function, task, index),
                executors="all",
                cache=False,
                ignore_for_cache=[],
                app_kwargs={},
            )
            future.add_done_callback(lambda future, index=index: finished.put((index, future)))
        for _ in tasks:
            index, future = self._next(finished)
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, BadStateException):
                raise Paused(f"the scheduler gives no jobs: {error}; mend that, then run again.") from error
            else:
                reason = f"{type(error).__name__}: {error}"
                yield Failed(index, f"WorkerLost: {error}", reason)

    def _next(self, finished: SimpleQueue[tuple[int, Future[Any]]]) -> tuple[int, Future[Any]]:
        """Return the next finished task; while there is none, log what it is waiting for, every reason once."""
        while True:
            with suppress(Empty):
                return finished.get(timeout=QUIET_SECONDS)
            reason = self._explain()
            if reason and reason != self._told:
                logger.warning("%s", reason)
            self._told = reason
