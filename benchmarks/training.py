"""Retraining an ensemble on 200 labels of 40 atoms: ours from scratch and from the round before, and a plain loop.

The plain loop trains the SchNet-like networks of ``scoring.py`` in batches of 10 on edges that are already there; its
time is that of as many passes over the labels as ours makes at most. Prints one JSON object: seconds of CPU time for
all members, and structures per second and member. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import json
import platform
import time

import numpy as np
import torch
from sampling import perovskite
from scoring import CUTOFF, MEMBERS, SchNetLike

from activeph.graphs.neighbours import direct_edges
from activeph.kinds import load_kind
from activeph.models.calibration import take
from activeph.records import Dataset
from activeph.sample.phonon import PhononSampler

LABELS = 200
BATCH = 10


def labelled() -> tuple[Dataset, dict]:
    """Return toy labels: energies and forces of springs, how the springs stiffen, and the largest displacement."""
    system = perovskite([2, 2, 2])
    block = PhononSampler(temperatures=[300.0]).pool(system, LABELS, 0).block(0, LABELS)
    moved = block.positions - system.supercell.positions
    squares = np.sum(moved**2, axis=2)
    targets = np.stack([squares.mean(axis=1), (squares**2).sum(axis=1), squares.max(axis=1)], axis=1)
    names = ("energy_per_atom", "stiffening", "largest")
    forces, stresses = (-2 * moved,), np.zeros((LABELS, 6))
    return Dataset((block,), names, targets, squares.sum(axis=1), forces, stresses), {system.name: system}


def fit_all(
    kind: str, dataset: Dataset, systems: dict, earlier: list[bytes] | None, **keys: object
) -> tuple[float, list[bytes]]:
    """Return seconds of CPU time for all members, and their states."""
    model = load_kind("models", kind)(members=MEMBERS, **keys)
    start = time.process_time()
    states = [model.fit(dataset, systems, k, earlier[k] if earlier else None) for k in range(MEMBERS)]
    return time.process_time() - start, states


def plain_rate(dataset: Dataset) -> float:
    """Return structures per second that a plain loop trains one network on."""
    block = dataset.blocks[0]
    batches = []
    for start in range(0, 40, BATCH):
        edges = direct_edges(block.positions[start : start + BATCH], block.cells[start : start + BATCH], CUTOFF)
        index = torch.from_numpy(np.stack([np.concatenate([edges.i, edges.j]), np.concatenate([edges.j, edges.i])]))
        lengths = torch.from_numpy(np.tile(np.linalg.norm(edges.vectors, axis=1), 2)).float()
        species = torch.tensor(block.species[start : start + BATCH].ravel())
        which = torch.arange(BATCH).repeat_interleave(block.species.shape[1])
        batches.append((species, index, lengths, which))
    network = SchNetLike()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    start_time = time.process_time()
    for batch in batches:
        optimiser.zero_grad()
        network(*batch).square().mean().backward()
        optimiser.step()
    return BATCH * len(batches) / (time.process_time() - start_time)


def main() -> None:
    torch.set_num_threads(1)
    dataset, systems = labelled()
    rate = plain_rate(dataset)
    results = {}
    for kind in ("gnn", "modes", "modes-gnn"):
        _, earlier = fit_all(kind, take(dataset, range(LABELS - 25)), systems, None)
        cold, warm = (fit_all(kind, dataset, systems, states)[0] for states in (None, earlier))
        results[kind] = {"cold seconds": round(cold, 1), "warm seconds": round(warm, 1)}
    without, _ = fit_all("gnn", dataset, systems, None, force_weight=0.0)
    results["gnn without forces"] = {"cold seconds": round(without, 1)}
    visits = load_kind("models", "gnn")().plan(LABELS).steps * BATCH
    print(
        json.dumps(
            {
                "what": f"training {MEMBERS} members on {LABELS} labels of 40 atoms, one core",
                "machine": platform.processor() or platform.machine(),
                "ours": results,
                "plain loop, as many passes": {
                    "seconds": round(MEMBERS * visits / rate, 1),
                    "structures/s and member": round(rate, 1),
                },
                "gnn, cold, against the plain loop": round(MEMBERS * visits / rate / results["gnn"]["cold seconds"], 1),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
