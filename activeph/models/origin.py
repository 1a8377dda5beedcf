"""The network of the origin study (arXiv:2511.15222) as the baseline to beat, without its flaws of data handling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from activeph.models.base import Device
from activeph.records import Block, Dataset, System
from activeph.section import Section

if TYPE_CHECKING:
    from torch import Tensor

    from activeph.graphs.batch import Graph
    from activeph.graphs.neighbours import NeighbourFinder
    from activeph.models.graph_network import GraphNetwork
    from activeph.models.network_predictor import NetworkPredictor
    from activeph.models.training import Plan


class OriginModel(Section):
    """Graph convolutions that see elements and one scaled distance per edge, and the maximum over atoms.

    Two GraphConv layers with batch normalisation, global max pooling, dropout and two dense layers as published; the
    output is linear instead of a sigmoid, targets are scaled on the training set alone, edges are complete.
    """

    kind: Literal["origin"] = "origin"
    members: int = Field(5, ge=1)
    """Networks of the ensemble; their spread is the uncertainty."""
    cutoff: float = Field(5.5, gt=0)
    """Distance in Å up to which atoms are joined by an edge."""
    hidden: int = Field(64, ge=1)
    """Channels per atom."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Share of the pooled channels silenced at each training step."""
    epochs: int = Field(500, ge=1)
    """Passes over the training labels."""
    batch: int = Field(128, ge=1)
    """Structures per optimiser step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size of Adam."""
    held_out: float = Field(0.15, ge=0, lt=0.9)
    """Share of the labels that a member does not train on and that decides when it stops."""
    device: Device = "auto"
    """Processor of networks: `auto` takes a GPU where torch finds one, else the CPU; `cpu` gives equal digits on every
    machine of one kind. Trained members can be read on either."""
    features: int = Field(64, ge=1)
    """Width of the sketched features that selectors compare."""

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member; see :class:`activeph.models.base.Model`."""
        from activeph.models.network import fit_network

        return fit_network(self, dataset, systems, seed, warm)

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> NetworkPredictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        from activeph.models.network import load_networks

        return load_networks(self, states, systems, self.features)

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return how a member's training went; see :class:`activeph.models.base.Traced`."""
        from activeph.models.network_state import learning_curve

        return learning_curve(state)

    def network(self, n_targets: int, elements: Tensor) -> GraphNetwork:
        """Return an untrained network."""
        from activeph.models.graphconv import GraphConvNet

        return GraphConvNet(n_targets, self.cutoff, self.hidden, self.dropout)

    def prepare(self, graph: Graph, elements: Tensor) -> Graph:
        """Return the graph as it is: elements and distances are all that the network reads."""
        return graph

    def read(self, block: Block, finder: NeighbourFinder, elements: Tensor) -> Graph:
        """Return configurations to score as the graph that all members read."""
        from activeph.graphs.batch import block_graph

        return block_graph(block, finder).to(elements.device)

    def plan(self, n_trained: int) -> Plan:
        """Return the training plan for a number of labels."""
        from activeph.models.training import Plan

        steps = self.epochs * -(-n_trained // self.batch)
        return Plan(steps, self.batch, self.learning_rate, weight_decay=0.0)
