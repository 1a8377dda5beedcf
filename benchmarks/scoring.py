"""Scoring a pool with an ensemble: ours, and the usual torch-geometric loop, in one run.

The usual stack is a matscipy search per structure, batches of 32, and a loop over K SchNet-like networks (4 interaction
blocks of torch-geometric, 64 channels, 50 Gaussians). Ours is everything that a round does: neighbour lists, moments,
K members, features. Prints one JSON object: candidates per second and core of CPU time (median of repeats), and the
rank correlation of our uncertainties with those computed in double precision from searched edges, one by one.
Run with OMP_NUM_THREADS=1.

    python benchmarks/scoring.py [--device cuda]

With --device cuda the networks score on the GPU, in pools of thousands; then candidates per second are those of the
wall clock, neighbour lists on one core of the processor included, and the loop runs on the GPU too.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from matscipy.neighbours import neighbour_list
from sampling import perovskite, rate
from scipy.stats import spearmanr
from torch_geometric.nn.models.schnet import GaussianSmearing, InteractionBlock
from torch_geometric.utils import scatter

from activeph.graphs.batch import Graph
from activeph.graphs.neighbours import direct_edges
from activeph.kinds import load_kind
from activeph.models.network_predictor import NetworkPredictor
from activeph.records import Block, Dataset, System
from activeph.sample.phonon import PhononSampler

MEMBERS = 5
POOL = {"cpu": 512, "cuda": 16_384}
REPEATS = 3
CUTOFF = 5.0


class SchNetLike(torch.nn.Module):
    """The plain network of the comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(100, 64)
        self.smearing = GaussianSmearing(0.0, CUTOFF, 50)
        self.blocks = torch.nn.ModuleList(InteractionBlock(64, 50, 64, CUTOFF) for _ in range(4))
        self.head = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.SiLU(), torch.nn.Linear(32, 1))

    def forward(self, species: torch.Tensor, index: torch.Tensor, d: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        atoms, smeared = self.embedding(species), self.smearing(d)
        for block in self.blocks:
            atoms = atoms + block(atoms, index, d, smeared)
        return scatter(self.head(atoms), which, reduce="mean")


@torch.no_grad()
def usual_loop(networks: list[SchNetLike], block: Block, n: int) -> int:
    """Score n structures as most scripts do."""
    for start in range(0, n, 32):
        rows = range(start, min(start + 32, n))
        index, lengths = [], []
        for number, row in enumerate(rows):
            i, j, d = neighbour_list(
                "ijd", cutoff=CUTOFF, positions=block.positions[row], cell=block.cells[row], pbc=np.array([True] * 3)
            )
            index.append(np.stack([i, j]) + number * block.species.shape[1])
            lengths.append(d)
        device = next(networks[0].parameters()).device
        edges = torch.from_numpy(np.concatenate(index, axis=1).astype(np.int64)).to(device)
        distances = torch.from_numpy(np.concatenate(lengths)).float().to(device)
        species = torch.from_numpy(block.species[rows.start : rows.stop].ravel()).to(device)
        which = torch.arange(len(rows), device=device).repeat_interleave(block.species.shape[1])
        torch.stack([network(species, edges, distances, which) for network in networks]).std(dim=0)
    return n


def ensemble(kind: str, system: System, block: Block, device: str) -> tuple[object, list[bytes]]:
    """Return a model and members trained on toy labels: speed does not depend on what was learned."""
    moved = block.positions - system.supercell.positions
    squares = np.sum(moved**2, axis=(1, 2))
    targets = np.stack([squares, squares**2], axis=1)
    dataset = Dataset((block,), ("a", "b"), targets, squares, (-2 * moved,), np.zeros((len(block), 6)))
    settings = {"cutoff": CUTOFF, "steps": 60, "device": device}
    options = {"gnn": settings} if kind == "modes-gnn" else settings if kind == "gnn" else {}
    model = load_kind("models", kind).model_validate({"members": MEMBERS, **options})
    return model, [model.fit(dataset, {system.name: system}, seed) for seed in range(MEMBERS)]


@torch.no_grad()
def exact_uncertainty(predictor: NetworkPredictor, block: Block) -> np.ndarray:
    """Return the uncertainty of each structure from searched edges, in double precision, one structure at a time."""
    torch.set_default_dtype(torch.float64)
    values = []
    networks = [member.network.double() for member in predictor._members]
    for row in range(len(block)):
        edges = direct_edges(block.positions[row : row + 1], block.cells[row : row + 1], CUTOFF)
        species = torch.tensor(block.species[row])
        graph = Graph(
            species,
            torch.zeros(len(species), dtype=torch.int64),
            torch.from_numpy(edges.i),
            torch.from_numpy(edges.j),
            torch.from_numpy(edges.vectors),
            1,
        )
        graph = predictor._model.prepare(graph, predictor._members[0].elements)
        scaled = np.stack([network(graph)[0].numpy()[0] for network in networks])
        scale = predictor._members[0].scaling.scale  # the same for all: they share their labels
        deviations = predictor._recalibration.apply(scale * scaled.std(axis=0, ddof=1)[None, : len(scale)])[0]
        values.append(np.sqrt(np.mean((deviations / scale) ** 2)))
    torch.set_default_dtype(torch.float32)
    return np.array(values)


def wall_rate(work: Callable[[], int]) -> float:
    """Return items per second of the wall clock, the median of repeats after one that warms up."""
    work()
    rates = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        n = work()
        torch.cuda.synchronize()
        rates.append(n / (time.perf_counter() - start))
    return float(np.median(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=tuple(POOL), default="cpu")
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda needs a GPU that torch can use but got none; leave it out.")
    measure = rate if device == "cpu" else wall_rate
    torch.set_num_threads(1)
    system = perovskite([2, 2, 2])
    systems = {system.name: system}
    sampler = PhononSampler(temperatures=[300.0])
    pool, train = sampler.pool(system, POOL[device], 0).block(0, POOL[device]), sampler.pool(system, 30, 1).block(0, 30)
    train = replace(train, positions=np.ascontiguousarray(train.positions))
    networks = [SchNetLike().eval().to(device) for _ in range(MEMBERS)]
    rates = {"torch-geometric loop": measure(lambda: usual_loop(networks, pool, 64))}
    for kind in ("gnn", "modes", "modes-gnn"):
        model, states = ensemble(kind, system, train, device)
        predictor = model.load(states, systems)
        rates[kind] = measure(lambda predictor=predictor: len(predictor.predict(pool).members[0]))
        if kind == "gnn":
            fast = predictor.predict(pool).uncertainty[:100]
            on_cpu = model.model_copy(update={"device": "cpu"})
            slow = exact_uncertainty(on_cpu.load(states, systems), Block(*vars_of(pool, 100)))
    peer = rates["torch-geometric loop"]
    print(
        json.dumps(
            {
                "what": f"scores of 40-atom candidates by {MEMBERS} members, edges included, per core of CPU time"
                if device == "cpu"
                else f"scores of 40-atom candidates by {MEMBERS} members, edges included, wall clock, one core and GPU",
                "device": device if device == "cpu" else torch.cuda.get_device_name(),
                "machine": platform.processor() or platform.machine(),
                "directed edges": int(2 * len(direct_edges(pool.positions[:1], pool.cells[:1], CUTOFF).i)),
                "candidates/s": {name: round(value, 1) for name, value in rates.items()},
                "times the loop": {name: round(value / peer, 1) for name, value in rates.items() if value != peer},
                "rank correlation with exact scores": round(float(spearmanr(fast, slow)[0]), 6),
            },
            indent=1,
        )
    )


def vars_of(block: Block, n: int) -> tuple[object, ...]:
    """Return the arrays of the first n configurations."""
    return block.system, block.species[:n], block.positions[:n], block.cells[:n], block.temperatures[:n]


if __name__ == "__main__":
    main()
