"""Training of one MACE network on energies, forces and stresses until held-out labels no longer improve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from activeph.models.device import Batches
from activeph.models.mace_batch import Data, evaluate, join_graphs
from activeph.models.training import Plan, State, Trained, average, set_rate

LOOK = 8  # structures computed together at least, where memory allows


@dataclass(frozen=True, eq=False)
class Lessons:
    """Structures that MACE has read, with energies that no longer hold those of the atoms."""

    graphs: Sequence[Any]
    energies: Tensor  # [S] eV
    weight: float = 1.0  # of each structure in the loss

    def __len__(self) -> int:
        return len(self.graphs)


@dataclass(frozen=True)
class Measure:
    """How errors count: each quantity in its own unit [eV per atom, eV/Å, eV/Å³], times its weight."""

    units: tuple[float, float, float]
    weights: tuple[float, float, float]

    def losses(self, network: torch.nn.Module, data: Data, energies: Tensor, training: bool) -> Tensor:
        """Return the loss of every structure [S]."""
        out = evaluate(network, data, training)
        sizes = (data["ptr"][1:] - data["ptr"][:-1]).to(out["energy"].dtype)
        energy = ((out["energy"] - energies) / sizes / self.units[0]) ** 2
        squares = torch.sum(((out["forces"] - data["forces"]) / self.units[1]) ** 2, dim=1)
        forces = torch.zeros_like(energy).index_add(0, data["batch"], squares) / (3 * sizes)
        stress = torch.mean(((out["stress"] - data["stress"]) / self.units[2]) ** 2, dim=(1, 2))
        return self.weights[0] * energy + self.weights[1] * forces + self.weights[2] * stress


class Trainer:
    """Trains one network in place."""

    def __init__(
        self, network: torch.nn.Module, measure: Measure, dtype: torch.dtype, device: torch.device, batch: int
    ) -> None:
        self._network = network
        self._measure = measure
        self._where = (dtype, device)
        self._batches = Batches(max(batch, LOOK))
        self._parameters = [value for value in network.parameters() if value.requires_grad]

    def train(self, lessons: Lessons, replayed: Lessons, checks: Lessons, plan: Plan, seed: int) -> Trained:
        """Train and return the best averaged weights by held-out loss; without held-out labels the last ones."""
        optimiser = torch.optim.Adam(self._parameters, lr=plan.learning_rate, amsgrad=True)
        means = [value.detach().clone() for value in self._parameters]
        rng = np.random.Generator(np.random.SFC64(seed))
        check_every = max(1, plan.steps // plan.checks)
        start = self.loss(checks)
        best, best_loss, best_step, curve = self._state(means), start, 0, [(0, start)]
        order: list[int] = []
        for step in range(1, plan.steps + 1):
            while len(order) < plan.batch:
                order += rng.permutation(len(lessons)).tolist()
            rows, order = order[: plan.batch], order[plan.batch :]
            again = rng.choice(len(replayed), min(plan.batch, len(replayed)), replace=False).tolist()
            set_rate(optimiser, plan, step)
            self._step(optimiser, [(lessons, row) for row in rows] + [(replayed, row) for row in again])
            average(list(zip(means, self._parameters, strict=True)), min(plan.averaging, step / (step + 9)))
            if step % check_every == 0 or step == plan.steps:
                loss = self._loss_of(means, checks)
                curve.append((step, loss))
                if loss < best_loss or not len(checks):
                    best, best_loss, best_step = self._state(means), loss, step
                elif step - best_step > plan.patience * plan.steps:
                    break
        self._network.load_state_dict(best)
        return Trained(best, best_loss, curve)

    def loss(self, lessons: Lessons) -> float:
        """Return the mean loss; infinite without structures."""
        if not len(lessons):
            return math.inf

        def work(rows: slice) -> float:
            part = [(lessons, row) for row in range(rows.start, rows.stop)]
            return float(self._sum(part, training=False).detach())

        return sum(self._batches.run(len(lessons), work)) / len(lessons)

    def _step(self, optimiser: torch.optim.Optimizer, examples: Sequence[tuple[Lessons, int]]) -> None:
        """Take one step on the sum of all gradients, computed in parts where memory is short."""
        whole = sum(lessons.weight for lessons, _ in examples)

        def work(rows: slice) -> None:
            torch.autograd.backward(self._sum(examples[rows], training=True) / whole)

        self._batches.run(len(examples), work, begin=lambda: optimiser.zero_grad(set_to_none=True))
        torch.nn.utils.clip_grad_norm_(self._parameters, 10.0)
        optimiser.step()

    def _sum(self, examples: Sequence[tuple[Lessons, int]], training: bool) -> Tensor:
        dtype, device = self._where
        data = join_graphs([lessons.graphs[row] for lessons, row in examples], dtype, device)
        energies = torch.stack([lessons.energies[row] for lessons, row in examples]).to(device=device, dtype=dtype)
        weights = torch.tensor([lessons.weight for lessons, _ in examples], device=device, dtype=dtype)
        return torch.sum(weights * self._measure.losses(self._network, data, energies, training))

    def _loss_of(self, means: Sequence[Tensor], lessons: Lessons) -> float:
        """Return the loss with other weights in place."""
        own = [value.detach().clone() for value in self._parameters]
        self._put(means)
        loss = self.loss(lessons)
        self._put(own)
        return loss

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)

    def _state(self, means: Sequence[Tensor]) -> State:
        """Return the network's whole state with the averaged weights."""
        own = [value.detach().clone() for value in self._parameters]
        self._put(means)
        state = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._put(own)
        return state
