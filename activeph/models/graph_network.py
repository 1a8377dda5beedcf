"""What every network of this folder is: a graph in, scaled targets and last-layer features out."""

from __future__ import annotations

from torch import Tensor, nn

from activeph.graphs.batch import Graph


class GraphNetwork(nn.Module):
    """Scalar properties of crystals from a graph."""

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return scaled targets [S, P] and the features [S, F] that the linear head reads."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def standardise(self, graph: Graph) -> None:
        """Set the scales of inputs from the training structures; a network with fixed scales does nothing."""
