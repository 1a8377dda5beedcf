"""What every network of this folder is: a graph in, scaled targets and last-layer features out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from activeph.graphs.batch import Graph


class GraphNetwork(nn.Module):
    """Scalar properties of crystals from a graph."""

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return scaled targets [S, P] and the features [S, F] that the linear head reads."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def loss(self, scaled: Tensor, features: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return what training lowers of scaled targets [S, P] and of what ``forward`` said of them.

        ``weights`` [P] are how much each counts. By default their mean squared error.
        """
        return torch.mean(weights * (scaled - targets) ** 2)

    def begin_step(self, done: float) -> None:
        """Hear before each step which share of the training is done; most networks do not care."""

    def standardise(self, graph: Graph) -> None:
        """Set the scales of inputs from the training structures; a network with fixed scales does nothing."""

    def gradient(self, value: Tensor, graph: Graph) -> Tensor:
        """Return the gradient [H, 3] of a number made of outputs with respect to the graph's vectors (per Å).

        It can be differentiated again, so that a loss may hold it.
        """
        (gradient,) = torch.autograd.grad(value, [graph.vectors], create_graph=True)
        return gradient
