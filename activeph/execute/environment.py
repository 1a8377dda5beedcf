"""The environment of a worker: one process per core, and memory kept between operations."""

from __future__ import annotations

import os
from collections.abc import Mapping

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
KEPT_BYTES = "2000000000"
"""glibc hands large temporaries back to the system after every operation unless told otherwise; keeping them makes
networks 1.4 to 3 times faster on a CPU. Read when a process starts, so it must be in the environment before."""


def worker_environment(threads: int, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a worker process, added to ``base`` (default: this process's)."""
    environment = dict(os.environ if base is None else base)
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", KEPT_BYTES)
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", KEPT_BYTES)
    return environment


def available_cores() -> int:
    """Return how many cores this process may use: its affinity where the system knows it, and no more than Slurm gave
    its job, which not every cluster pins.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cores, int(given)) if given.isdigit() and int(given) else cores


GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def gpu_environment(rank: int, gpus: int, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that leave worker ``rank`` (from 0) one of ``gpus`` GPUs; no variables without GPUs.

    Where the scheduler has named the GPUs of the job already (in ``base``, default: this process's environment), it is
    one of those.
    """
    if gpus == 0:
        return {}
    given = os.environ if base is None else base
    names = [name for name in given.get(GPU_VARIABLES[0], "").split(",") if name] or [str(i) for i in range(gpus)]
    return dict.fromkeys(GPU_VARIABLES, names[rank % min(gpus, len(names))])
