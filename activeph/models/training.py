"""One network, trained on graphs until a held-out part no longer improves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from activeph.graphs.batch import Graph, join_graphs
from activeph.models.device import Batches
from activeph.models.forces import ForceLabels, differentiable, force_loss
from activeph.models.graph_network import GraphNetwork

State = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train. ``averaging`` is the decay of the running mean of the weights per step."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float
    force_weight: float = 0.0  # of the forces' loss beside that of the targets
    averaging: float = 0.98
    checks: int = 25  # looks at the held-out part
    patience: float = 0.4  # share of the steps that may pass without an improvement
    warm_up: float = 0.1  # share of the steps over which the learning rate rises


@dataclass(frozen=True, eq=False)
class Examples:
    """Graphs of one structure each, with scaled targets [S, P], how much each target counts [P], and forces."""

    graphs: Sequence[Graph]
    targets: Tensor
    weights: Tensor
    forces: ForceLabels | None = None

    def take(self, rows: Sequence[int]) -> Examples:
        """Return some of them."""
        forces = self.forces.part(rows) if self.forces else None
        return Examples([self.graphs[row] for row in rows], self.targets[list(rows)], self.weights, forces)

    def joined(self, rows: Sequence[int]) -> tuple[Graph, Tensor]:
        """Return some of them as one graph."""
        return join_graphs([self.graphs[row] for row in rows]), self.targets[list(rows)]


@dataclass(frozen=True, eq=False)
class Trained:
    """The best weights by held-out loss (the network's, of scaled targets), and the curve that led there.

    A point of the curve is (step, held-out loss), then what training minimised since the point before: the loss of
    the targets and the mean squared error of the forces.
    """

    state: State
    loss: float
    curve: Sequence[tuple[float, ...]]


def train(
    network: GraphNetwork, train_set: Examples, check_set: Examples, plan: Plan, seed: int, keep_start: bool = False
) -> Trained:
    """Train a network in place and return its best weights; without a held-out part the last averaged ones.

    With ``keep_start`` the weights it starts with may be the best.
    """
    averaged = deepcopy(network)
    pairs = list(zip(averaged.state_dict().values(), network.state_dict().values(), strict=True))
    network.train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, foreach=True
    )
    rng = np.random.Generator(np.random.SFC64(seed))
    batches, looks = Batches(plan.batch), Batches(len(check_set.graphs))
    order: list[int] = []
    check_every = max(1, plan.steps // plan.checks)
    start = evaluate(averaged, check_set, looks)
    best, best_loss, best_step = deepcopy(averaged.state_dict()), math.inf, 0
    curve, losses = [(0.0, start, math.nan, math.nan)], []
    if keep_start:
        best_loss = start
    for step in range(1, plan.steps + 1):
        if len(order) < min(plan.batch, len(train_set.graphs)):
            order += rng.permutation(len(train_set.graphs)).tolist()
        rows, order = order[: plan.batch], order[plan.batch :]
        set_rate(optimiser, plan, step)
        network.begin_step((step - 1) / plan.steps)
        losses.append(_step(network, optimiser, train_set, rows, plan.force_weight, batches))
        average(pairs, min(plan.averaging, step / (step + 9)))
        if step % check_every == 0 or step == plan.steps:
            loss = evaluate(averaged, check_set, looks)
            curve.append((float(step), loss, *torch.stack(losses).mean(dim=0).tolist()))
            losses = []
            if loss < best_loss or not check_set.graphs:
                best, best_loss, best_step = deepcopy(averaged.state_dict()), loss, step
            elif step - best_step > plan.patience * plan.steps:
                break
    return Trained(best, best_loss, curve)


@torch.no_grad()
def evaluate(network: GraphNetwork, examples: Examples, batches: Batches | None = None) -> float:
    """Return the network's loss of scaled targets; infinite where there are no examples."""
    n = len(examples.graphs)
    if n == 0:
        return math.inf
    network.eval()

    def loss(part: slice) -> float:
        graph, targets = examples.joined(range(n)[part])
        scaled, features = network(graph)
        return float(network.loss(scaled, features, targets, examples.weights)) * len(targets) / n

    return sum((batches or Batches(n)).run(n, loss))


def _step(
    network: GraphNetwork,
    optimiser: torch.optim.Optimizer,
    examples: Examples,
    rows: Sequence[int],
    force_weight: float,
    batches: Batches,
) -> Tensor:
    """Make one step on some examples and return their losses [2] of targets and forces."""

    def descend(part: slice) -> Tensor:
        own = rows[part]
        of_targets, of_forces = _losses(network, examples, own, force_weight > 0)
        share = len(own) / len(rows)
        torch.autograd.backward(share * (of_targets + force_weight * of_forces), inputs=list(network.parameters()))
        return share * torch.stack([of_targets.detach(), of_forces.detach()])

    losses = batches.run(len(rows), descend, optimiser.zero_grad)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return torch.stack(losses).sum(dim=0)


def _losses(network: GraphNetwork, examples: Examples, rows: Sequence[int], with_forces: bool) -> tuple[Tensor, Tensor]:
    graph, targets = examples.joined(rows)
    labels = examples.forces.part(rows) if with_forces and examples.forces else None
    graph = differentiable(graph) if labels else graph
    scaled, features = network(graph)
    of_targets = network.loss(scaled, features, targets, examples.weights)
    return of_targets, force_loss(network, graph, scaled, labels) if labels else torch.zeros_like(of_targets)


def set_rate(optimiser: torch.optim.Optimizer, plan: Plan, step: int) -> None:
    """Linear warm-up, then half a cosine to zero."""
    done = step / plan.steps
    share = done / plan.warm_up if done < plan.warm_up else 0.5 * (1 + math.cos(math.pi * done))
    for group in optimiser.param_groups:
        group["lr"] = plan.learning_rate * share


@torch.no_grad()
def average(pairs: Sequence[tuple[Tensor, Tensor]], decay: float) -> None:
    """Move running means (first) towards values (second)."""
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
