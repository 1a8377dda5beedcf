"""Running tasks through Parsl's HighThroughputExecutor: pilot jobs ("blocks") whose workers fetch tasks.

Imported when such an executor starts, never before.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost

from activeph.errors import Paused
from activeph.execute.environment import worker_environment
from activeph.execute.serial import call
from activeph.records import Done, Failed

HEARTBEAT_SECONDS = 10
LOST_SECONDS = 30  # a manager that hears nothing for so long ends its block: also after the driver was killed
RETRIES = 3  # of a task whose block was lost: not its fault


def run_label(directory: Path) -> str:
    """Return the name of a run's executor: it is in the names of its jobs, by which a later driver finds them."""
    return f"activeph-{hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:10]}"


def shell_environment(threads: int) -> str:
    """Return shell lines that prepare a block: this interpreter and its modules first, pinned threads."""
    lines = [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    own = [place for place in sys.path if place and not place.startswith((sys.prefix, sys.base_prefix))]
    if own:
        lines.append(f"export PYTHONPATH={shlex.quote(os.pathsep.join(own))}")
    lines += [f"export {name}={value}" for name, value in worker_environment(threads, {}).items()]
    return "\n".join(lines)


@contextmanager
def parsl_workers(provider: Any, directory: Path, options: Mapping[str, Any]) -> Iterator[ParslWorkers]:
    """Give workers of the blocks that a provider starts; logs and job scripts go to ``directory``.

    ``options`` go to HighThroughputExecutor: workers per node, drain period, accelerators, address.
    """
    logging.getLogger("parsl").setLevel(logging.ERROR)
    executor = HighThroughputExecutor(
        label=run_label(directory),
        provider=provider,
        heartbeat_period=HEARTBEAT_SECONDS,
        heartbeat_threshold=LOST_SECONDS,
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
        yield ParslWorkers(kernel)
    finally:
        kernel.cleanup()


def _cost(error: Exception, task: Any) -> float:
    """Return what a failed try costs of the retries: a lost block one, whatever the task may be to blame for all."""
    return 1.0 if isinstance(error, ManagerLost) else RETRIES + 1.0


class ParslWorkers:
    """Blocks of a scheduler; they come and go while tasks wait."""

    def __init__(self, kernel: DataFlowKernel) -> None:
        self._kernel = kernel

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done | Failed]:
        """Yield outcomes in completion order. A task whose block is lost runs again elsewhere, three times at most.

        Leaving the iteration early lets the tasks that were handed over finish; their outcomes are dropped.
        Raises Paused where the scheduler takes no jobs.
        """
        futures = {
            self._kernel.submit(
                call, app_args=(function, task, index), executors="all", cache=False, ignore_for_cache=[], app_kwargs={}
            ): index
            for index, task in enumerate(tasks)
        }
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, BadStateException):
                raise Paused(f"the scheduler gives no jobs: {error}; mend that, then run again.") from error
            else:
                reason = f"{type(error).__name__}: {error}"
                yield Failed(futures[future], f"WorkerLost: {error}", reason)
