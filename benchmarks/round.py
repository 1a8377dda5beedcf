"""One round over a large pool of 40-atom candidates: draw, score, select, pick; seconds, CPU seconds and peak memory.

Run with OMP_NUM_THREADS=1, one process per figure, as memory is the peak of the process:

    python benchmarks/round.py [--pool 1000000] [--model modes] [--select lcmd] [--workers 2]

Prints one JSON object. The pool is never stored; the peak should grow by scores and sketched features alone, which
is checked by measuring a pool a tenth as large in the same run. CPU seconds are those of driver and workers, starting
the workers included; on idle cores a round takes about the driver's and the workers' share of them. The peer's figure
is what a pool stored as ASE Atoms needs, measured on a thousand.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sampling import perovskite

from activeph.config import Arm, Budget, Campaign, SystemSection, TestSection
from activeph.dataset import make_dataset
from activeph.kinds import load_kind
from activeph.progress import NoProgress
from activeph.proposal import Request, campaign_pools, select
from activeph.records import Label, System
from activeph.rundir import write_bytes
from activeph.state import Step

N_LABELLED = 100
BATCH = 100


def toy_label(system: System, configuration: Any) -> Label:
    """Return a smooth made-up label: the cost of a round does not depend on the physics behind it."""
    u = configuration.positions - system.supercell.positions
    energy = float(np.sum(u**2) * 2.0 + np.sum(u[:8, 0] * u[8:16, 1]))
    n = len(u)
    bands = np.zeros((1, 1, 2))
    return Label(configuration, energy, -4.0 * u, np.zeros(6), 2.0 - energy / n, 2.0, 0.0, 2.0, bands, bands)


def measure(pool: int, model: str, selector: str, workers: int) -> dict[str, float]:
    """Return seconds, CPU seconds and peak memory (MB) of one round in this process and its workers."""
    system = perovskite([2, 2, 2])
    sampler = load_kind("samplers", "phonon")(temperatures=(150.0, 300.0, 450.0, 600.0))  # type: ignore[call-arg]
    with tempfile.TemporaryDirectory() as folder:
        structure = Path(folder) / "structure.xyz"
        structure.write_text("")
        campaign = Campaign.model_construct(
            name="round",
            seed=0,
            systems=(SystemSection.model_construct(name=system.name, structure=structure),),
            targets=("band_gap", "energy_per_atom"),
            arms={"active": Arm(sample=sampler, select=load_kind("selectors", selector)())},
            pool=pool,
            model=load_kind("models", model)(),
            budget=Budget(),
            test=TestSection.model_construct(),
        )
        systems = {system.name: system}
        step = Step("active", 0, 1)
        training = sampler.pool(system, N_LABELLED, 1)  # type: ignore[attr-defined]
        block = training.block(0, N_LABELLED)
        labels = [toy_label(system, block.configuration(i)) for i in range(N_LABELLED)]
        dataset = make_dataset(labels, [system.name] * N_LABELLED, block.temperatures.tolist(), campaign.targets)
        states = []
        for member in range(campaign.model.members):
            states.append(Path(folder) / f"member-{member}.pt")
            write_bytes(states[-1], campaign.model.fit(dataset, systems, member))
        request = Request(step, BATCH, frozenset(), tuple(states), dataset.blocks)
        executor = load_kind("executors", "processes" if workers > 1 else "serial")
        settings = {"workers": workers} if workers > 1 else {}
        with executor(**settings).start() as running:  # type: ignore[attr-defined]
            start, cpu = time.perf_counter(), time.process_time()
            chosen = select(campaign, systems, [request], running, NoProgress())[step][0]
            picked = campaign_pools(campaign, systems, step).candidates(chosen)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert len(picked) == BATCH
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "driver_CPU_s": cpu,
        "workers_CPU_s": children.ru_utime + children.ru_stime,
        "driver_peak_MB": own,
        "largest_worker_peak_MB": children.ru_maxrss / 1024,
    }


def stored_pool_bytes(n: int = 1000) -> float:
    """Return bytes per candidate of a pool kept as ASE Atoms."""
    import tracemalloc

    from ase import Atoms

    system = perovskite([2, 2, 2])
    tracemalloc.start()
    kept = [Atoms(system.supercell.numbers, system.supercell.positions, cell=system.supercell.cell) for _ in range(n)]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / len(kept)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", type=int, default=100_000)
    parser.add_argument("--model", default="modes-gnn")
    parser.add_argument("--select", default="lcmd")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--single", action="store_true", help="measure this pool only, in this process")
    arguments = parser.parse_args()
    if arguments.single:
        print(json.dumps(measure(arguments.pool, arguments.model, arguments.select, arguments.workers)))
        return
    results = {}
    for pool in (arguments.pool // 10, arguments.pool):
        command = [sys.executable, __file__, "--single", "--pool", str(pool), "--model", arguments.model]
        command += ["--select", arguments.select, "--workers", str(arguments.workers)]
        results[pool] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    small, large = results[arguments.pool // 10], results[arguments.pool]
    grown = (large["driver_peak_MB"] - small["driver_peak_MB"]) * 1024**2 / (0.9 * arguments.pool)
    report = {
        "pool": arguments.pool,
        "model": arguments.model,
        "select": arguments.select,
        "workers": arguments.workers,
        "atoms": 40,
        "batch": BATCH,
        "ours": large,
        "tenth": small,
        "ours_bytes_per_candidate": grown,
        "stored_ase_atoms_bytes_per_candidate": stored_pool_bytes(),
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
