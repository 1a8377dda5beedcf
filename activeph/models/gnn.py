"""The property network: an ensemble of small equivariant message-passing networks for several targets at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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

VIEWS = 25  # of each label in a training: with 15 the gap's error at 200 labels was a third larger


class GnnSettings(Section):
    """The network and its training."""

    cutoff: float = Field(6.0, gt=0)
    """Distance in Å up to which atoms see each other directly."""
    hidden: int = Field(32, ge=4)
    """Channels of scalars, vectors and tensors per atom."""
    blocks: int = Field(2, ge=1)
    """Rounds in which scalars, vectors and tensors of one atom act on each other; each doubles the order in angles."""
    layers: int = Field(1, ge=1)
    """Rounds of message passing; the first sees what lies within the cutoff, each further one as far again."""
    radial: int = Field(6, ge=2)
    """Radial functions per element."""
    steps: int = Field(250, ge=1)
    """Optimiser steps for a small dataset; larger ones get up to four times as many, so that each label is seen
    25 times."""
    batch: int = Field(10, ge=1)
    """Structures per optimiser step."""
    learning_rate: float = Field(1e-2, gt=0)
    """Largest step size of AdamW; rises linearly, falls like a cosine."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decay of AdamW."""
    held_out: float = Field(0.15, ge=0, lt=0.9)
    """Share of the labels that a member does not train on and that decides when it stops; differs from member to
    member."""
    force_weight: float = Field(3.0, ge=0)
    """Weight of the forces' squared error (in units of their mean square) beside that of the targets (in units of
    their variance). The energy's derivatives learn them where labels have them; 0: learn from the targets alone."""
    device: Device = "auto"
    """Processor of networks: `auto` takes a GPU where torch finds one, else the CPU; `cpu` gives equal digits on every
    machine of one kind. Trained members can be read on either."""

    def network(self, n_targets: int, elements: Tensor) -> GraphNetwork:
        """Return an untrained network."""
        from activeph.models.property_net import PropertyNet

        return PropertyNet(n_targets, elements, self.cutoff, self.radial, (self.hidden, self.blocks, self.layers))

    def prepare(self, graph: Graph, elements: Tensor) -> Graph:
        """Return the graph with what all members read of it."""
        from activeph.graphs.moments import neighbour_moments

        return replace(graph, moments=neighbour_moments(graph, elements, self.cutoff, self.radial))

    def read(self, block: Block, finder: NeighbourFinder, elements: Tensor) -> Graph:
        """Return configurations to score as what all members read of them.

        A network of one round reads moments alone, which a CPU sums much faster over tables than over a graph.
        """
        from activeph.graphs.batch import atoms_graph, block_graph
        from activeph.graphs.table_moments import table_moments

        if self.layers == 1 and elements.device.type == "cpu":
            moments = table_moments(block, finder, elements.numpy(), self.radial)
            if moments is not None:
                return replace(atoms_graph(block), moments=moments)
        return self.prepare(block_graph(block, finder).to(elements.device), elements)

    def plan(self, n_trained: int) -> Plan:
        """Return the training plan for a number of labels."""
        from activeph.models.training import Plan

        steps = min(max(self.steps, VIEWS * n_trained // self.batch), 4 * self.steps)
        return Plan(steps, self.batch, self.learning_rate, self.weight_decay, self.force_weight)


class GnnModel(GnnSettings):
    """Learns scalar properties from positions alone: distances and angles within a cutoff, no symmetry assumed."""

    kind: Literal["gnn"] = "gnn"
    members: int = Field(5, ge=1)
    """Networks of the ensemble; their spread is the uncertainty."""
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

    def trained_network(self, state: bytes) -> tuple[GnnSettings, bytes]:
        """Return a member's network; see :class:`activeph.models.calculator.WithNetworks`."""
        return self, state

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return how a member's training went; see :class:`activeph.models.base.Traced`."""
        from activeph.models.network_state import learning_curve

        return learning_curve(state)
