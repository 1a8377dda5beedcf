"""Time of one batch selection: ours beside modAL's ranked batch and, where it is installed, bmdal_reg.

Prints one JSON object: processor seconds of one thread (median over --repeats, the first wall time beside it) and
ratios peer/ours. The peers get the same features in the same run. modAL's ranked batch is timed for --modal-picks
picks; its cost per pick does not shrink with the batch.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from activeph.records import Prediction
from activeph.select.kmeanspp import KMeansPlusPlusSelector
from activeph.select.lcmd import LcmdSelector
from activeph.select.maxdet import MaxDetSelector
from activeph.select.maxdist import MaxDistSelector
from activeph.select.modal import ModalSelector
from activeph.select.typiclust import TypiclustSelector


def seconds(task: Callable[[], Any], repeats: int) -> float:
    """Median processor time of the one thread: what the wall clock shows on a core of its own."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return statistics.median(times)


def bmdal_task(features: np.ndarray, labelled: np.ndarray, n: int) -> Callable[[], Any] | None:
    """LCMD-TP of bmdal_reg on plain vectors; None where it is not installed."""
    np.Inf = np.inf  # bmdal_reg 3.0.2 uses the name that NumPy 2 removed
    try:
        import torch
        from bmdal_reg.bmdal.algorithms import select_batch
        from bmdal_reg.bmdal.feature_data import TensorFeatureData
    except ImportError:
        return None
    torch.set_num_threads(1)
    data = {
        "train": TensorFeatureData(torch.from_numpy(labelled)),
        "pool": TensorFeatureData(torch.from_numpy(features)),
    }
    settings = {"base_kernel": "linear", "kernel_transforms": [], "selection_method": "lcmd", "sel_with_train": True}

    def task() -> Any:
        with contextlib.redirect_stdout(sys.stderr):  # it prints
            return select_batch(batch_size=n, models=[torch.nn.Identity()], data=data, y_train=None, **settings)

    return task


def measure(arguments: argparse.Namespace, width: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((arguments.pool, width), dtype=np.float32)
    labelled = rng.standard_normal((arguments.labelled, width), dtype=np.float32)
    pool = Prediction(rng.normal(size=(2, arguments.pool, 1)), features, np.ones(1))
    selector = LcmdSelector()
    start = time.perf_counter()
    selector.select(pool, labelled, arguments.picks, rng)
    wall = time.perf_counter() - start
    ours = seconds(lambda: selector.select(pool, labelled, arguments.picks, rng), arguments.repeats)
    result: dict[str, Any] = {"features": width, "picks": arguments.picks, "lcmd_s": ours, "lcmd_first_wall_s": wall}
    result["peak_memory_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    others = (MaxDistSelector(), MaxDetSelector(), KMeansPlusPlusSelector(), TypiclustSelector())
    for other in others if arguments.others else ():
        result[f"{other.kind}_s"] = seconds(functools.partial(other.select, pool, labelled, arguments.picks, rng), 1)
    if arguments.modal_picks:
        ranked = ModalSelector(strategy="uncertainty_batch_sampling")
        few = Prediction(pool.members[:, :50], features[:50], pool.scale)
        ranked.select(few, labelled, 2, rng)  # imports modAL outside the clock
        result["modal_ranked_picks"] = arguments.modal_picks
        result["modal_ranked_s"] = seconds(lambda: ranked.select(pool, labelled, arguments.modal_picks, rng), 1)
        per_pick = result["modal_ranked_s"] / arguments.modal_picks
        result["modal_ranked_over_ours_per_pick"] = per_pick / (ours / arguments.picks)
    peer = bmdal_task(features, labelled, arguments.picks) if arguments.peers else None
    if peer is not None:
        result["bmdal_lcmd_s"] = seconds(peer, arguments.repeats)
        picked = set(peer()[0].tolist())
        own = selector.select(pool, labelled, arguments.picks, rng).tolist()
        result["picks_shared_with_bmdal"] = len(picked.intersection(own)) / arguments.picks
        result["bmdal_over_ours"] = result["bmdal_lcmd_s"] / ours
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=100_000)
    parser.add_argument("--picks", type=int, default=100)
    parser.add_argument("--labelled", type=int, default=500)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--modal-picks", type=int, default=5, help="0 leaves modAL out")
    parser.add_argument(
        "--others", action=argparse.BooleanOptionalAction, default=True, help="time our other selectors"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="time bmdal_reg too")
    arguments = parser.parse_args()
    cases = [measure(arguments, width) for width in arguments.widths]
    json.dump({"pool": arguments.pool, "labelled": arguments.labelled, "threads": 1, "cases": cases}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
