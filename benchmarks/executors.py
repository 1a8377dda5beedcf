"""Trivial labels by the campaign's own way (ledger, files, fsync, failures) beside a plain Parsl map and a plain pool.

``python benchmarks/executors.py [N] [--only CASE ...] [--profile]``: N labels (default 10 000) of one copper atom by
ASE's effective medium theory, on two workers of this machine, for each executor; the peers run N times nothing. Also
what a label costs the driver in CPU seconds, as a share of a label of 10 s. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

WORKERS = 2
MARK = f"ACTIVEPH_BENCHMARK={os.getpid()}"
LABEL_SECONDS = 10.0


def nothing(task: int) -> int:
    return task


def configurations(n: int) -> list[Any]:
    from activeph.records import Configuration

    cells = 3.6 + np.arange(n) * 1e-4
    return [Configuration(np.array([29]), np.zeros((1, 3)), np.eye(3) * cell) for cell in cells]


@contextmanager
def measured(result: dict[str, float], n: int) -> Iterator[None]:
    wall, own, all_of_it = time.perf_counter(), time.process_time(), all_cpu_seconds()
    yield
    result["per_second"] = round(n / (time.perf_counter() - wall), 1)
    result["driver_cpu_ms"] = round(1000 * (time.process_time() - own) / n, 3)
    result["all_cpu_ms"] = round(1000 * (all_cpu_seconds() - all_of_it) / n, 3)


def all_cpu_seconds() -> float:
    """Return the CPU seconds of the processes that this one has started, wherever they hang now, and of itself."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.name == str(os.getpid()) or MARK.encode() in (place / "environ").read_bytes():
                ticks += sum(map(int, (place / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def ours(executor: Any, n: int, directory: Path, labeler: Any) -> dict[str, float]:
    """Return rates of labels; workers have started and the code is loaded before the clock does."""
    from activeph.labelling import obtain
    from activeph.records import Label
    from activeph.store.ledger import Ledger

    ledger, result = Ledger(directory / "labels"), {}
    with executor.start(directory / "jobs") as workers:
        obtain(labeler, configurations(2 * n)[n : n + 10 * WORKERS], ledger, workers)
        with measured(result, n):
            found = obtain(labeler, configurations(n), ledger, workers)
    assert len(found) == n
    assert all(isinstance(label, Label) for label in found.values())
    result["driver_share_of_10_s_percent"] = round(result["driver_cpu_ms"] / 10 / LABEL_SECONDS * WORKERS, 4)
    return result


def plain_pool(n: int) -> dict[str, float]:
    result: dict[str, float] = {}
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        list(pool.imap_unordered(nothing, range(10 * WORKERS)))
        with measured(result, n):
            assert len(list(pool.imap_unordered(nothing, range(n)))) == n
    return result


def plain_parsl(n: int, directory: Path) -> dict[str, float]:
    """Parsl as its tutorial has it: one block here, an app per task, results as they come."""
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    executor = HighThroughputExecutor(
        max_workers_per_node=WORKERS, encrypted=False, provider=LocalProvider(init_blocks=1, max_blocks=1)
    )
    result: dict[str, float] = {}
    with parsl.load(Config(executors=[executor], run_dir=str(directory))):
        app = parsl.python_app(nothing)
        for future in [app(index) for index in range(10 * WORKERS)]:
            future.result()
        with measured(result, n):
            futures = [app(index) for index in range(n)]
            assert [future.result() for future in futures] == list(range(n))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=10_000)
    parser.add_argument("--only", nargs="*", default=["parsl", "plain-parsl", "processes", "plain-pool"])
    parser.add_argument("--directory", help="where the ledger lies; every label is flushed to it several times")
    parser.add_argument("--profile", action="store_true", help="show where the driver's time goes")
    arguments = parser.parse_args()
    os.environ.update([MARK.split("=")])
    from activeph.execute.parsl_executor import ParslExecutor
    from activeph.execute.processes import ProcessExecutor
    from activeph.label.ase_calculator import AseLabeler

    labeler = AseLabeler(calculator="ase.calculators.emt:EMT")
    blocks = ParslExecutor(provider="parsl.providers:LocalProvider", cores_per_node=WORKERS)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folder, n = Path(name), arguments.n
        cases: dict[str, Callable[[], dict[str, float]]] = {
            "parsl": lambda: ours(blocks, n, folder / "parsl", labeler),
            "plain-parsl": lambda: plain_parsl(n, folder / "plain"),
            "processes": lambda: ours(ProcessExecutor(workers=WORKERS), n, folder / "processes", labeler),
            "plain-pool": lambda: plain_pool(n),
        }
        found = {}
        for case in arguments.only:
            profile = cProfile.Profile()
            if arguments.profile:
                profile.enable()
            found[case] = cases[case]()
            if arguments.profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    print(json.dumps({"labels": n, "workers": WORKERS, **found}, indent=1))


if __name__ == "__main__":
    main()
