"""A small equivariant network on moments of atomic surroundings.

Every atom carries scalars, vectors and second-rank tensors, first as learned mixtures of the moments of its neighbours
(:mod:`activeph.graphs.moments`). They act on each other through inner products, so that angles and many-body terms
enter block by block; further rounds of message passing (after PaiNN, arXiv:2102.03150) carry scalars and vectors on.
Outputs are means and soft extrema over atoms, hence intensive: a band edge is set by the most extreme surroundings
in a cell, an energy per atom by the mean one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter, softmax

from activeph.graphs.batch import Graph
from activeph.graphs.moments import pair_gradient, radial_basis
from activeph.models.graph_network import GraphNetwork

TINY = 1e-6  # moments that vary less are constants of the crystal
GAIN = 3.0  # over the root of the number of moments: their mixtures then have spreads near one


class Message(MessagePassing):  # type: ignore[misc]
    """Sends scalars and vectors along the edges, each weighted by a function of the distance."""

    def __init__(self, hidden: int, n_radial: int) -> None:
        super().__init__(aggr="sum", flow="source_to_target")
        self.sent = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3 * hidden))
        self.filter = nn.Linear(n_radial, 3 * hidden, bias=False)
        self.hidden = hidden

    def forward(self, scalars: Tensor, vectors: Tensor, edges: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return updated scalars [A, F] and vectors [A, 3, F]; edges: index [2, E], radial [E/2, n], unit [E, 3]."""
        index, radial, directions = edges
        weights = self.filter(radial)
        received = self.propagate(
            index,
            sent=self.sent(scalars),
            carried=vectors.flatten(1),
            weights=torch.cat([weights, weights]),
            directions=directions,
            size=(len(scalars), len(scalars)),
        )
        return scalars + received[:, : self.hidden], vectors + received[:, self.hidden :].view_as(vectors)

    def message(self, sent_j: Tensor, carried_j: Tensor, weights: Tensor, directions: Tensor) -> Tensor:
        """Return what travels along each edge [E, 4F]: scalars, and vectors of three components."""
        scalar, along, kept = (sent_j * weights).chunk(3, dim=1)
        carried = carried_j.view(-1, 3, self.hidden)
        return torch.cat([scalar, (directions[:, :, None] * along[:, None] + carried * kept[:, None]).flatten(1)], 1)


class Block(nn.Module):
    """Lets scalars, vectors and tensors of one atom act on each other through inner products."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mix_vectors = nn.Linear(hidden, 2 * hidden, bias=False)
        self.mix_tensors = nn.Linear(hidden, 2 * hidden, bias=False)
        self.gates = nn.Sequential(nn.Linear(3 * hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, 3 * hidden))

    def forward(self, scalars: Tensor, vectors: Tensor, tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return updated scalars [A, F], vectors [A, 3, F] and tensors [A, 5, F]."""
        left_vectors, right_vectors = self.mix_vectors(vectors).chunk(2, dim=2)
        left_tensors, right_tensors = self.mix_tensors(tensors).chunk(2, dim=2)
        products = [torch.sum(left_vectors * right_vectors, dim=1), torch.sum(left_tensors * right_tensors, dim=1)]
        shift, turn_vectors, turn_tensors = self.gates(torch.cat([scalars, *products], dim=1)).chunk(3, dim=1)
        vectors = vectors + left_vectors * turn_vectors[:, None]
        return scalars + shift, vectors, tensors + left_tensors * turn_tensors[:, None]


class Blocks(nn.Module):
    """Several blocks in a row."""

    def __init__(self, hidden: int, n_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(n_blocks))

    def forward(self, scalars: Tensor, vectors: Tensor, tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return updated scalars [A, F], vectors [A, 3, F] and tensors [A, 5, F]."""
        for block in self.blocks:
            scalars, vectors, tensors = block(scalars, vectors, tensors)
        return scalars, vectors, tensors


class PropertyNet(GraphNetwork):
    """Scalar properties of crystals, invariant to rotation, translation, permutation and choice of cell."""

    elements: Tensor
    centre: Tensor
    spreads: Tensor

    def __init__(
        self, n_targets: int, elements: Tensor, cutoff: float, n_radial: int, size: tuple[int, int, int]
    ) -> None:
        """Build it; ``size`` is (channels, blocks per round, rounds of message passing)."""
        super().__init__()
        hidden, n_blocks, n_layers = size
        n_elements, n_moments = len(elements), len(elements) * n_radial
        self.cutoff, self.n_radial = cutoff, n_radial
        self.register_buffer("elements", elements, persistent=False)
        self.register_buffer("centre", torch.zeros(n_elements, n_moments))  # of scalar moments, per central element
        self.register_buffer("spreads", torch.ones(3, n_elements, n_moments))  # of l = 0, 1, 2
        self.embedding = nn.Embedding(n_elements, hidden)
        self.strengths = nn.Embedding(n_elements, 2 * hidden)
        nn.init.ones_(self.strengths.weight)
        self.scalars = nn.Linear(n_moments, hidden)
        self.vectors = nn.Linear(n_moments, hidden, bias=False)
        self.tensors = nn.Linear(n_moments, hidden, bias=False)
        self.messages = nn.ModuleList(Message(hidden, n_radial) for _ in range(n_layers - 1))
        self.rounds = nn.ModuleList(Blocks(hidden, n_blocks) for _ in range(n_layers))
        self.attention = nn.Linear(hidden, hidden)
        self.local = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.head = nn.Linear(2 * hidden, n_targets)
        nn.init.zeros_(self.head.weight)  # the untrained network predicts the training mean
        nn.init.zeros_(self.head.bias)

    @torch.no_grad()
    def standardise(self, graph: Graph) -> None:
        """Set centre and spreads of the moments; only scalars may be centred without breaking a symmetry."""
        moments = _moments(graph)
        slots = torch.searchsorted(self.elements, graph.species)
        for slot in range(len(self.elements)):
            own = moments[slots == slot]
            if len(own) == 0:
                own = moments  # an element without labels borrows the scales of the others
            self.centre[slot] = own[..., 0].mean(dim=0)
            squares = (own - torch.nn.functional.pad(self.centre[slot][:, None], (0, 8))) ** 2
            for order, place in enumerate((slice(0, 1), slice(1, 4), slice(4, 9))):
                spread = squares[..., place].mean(dim=(0, 2)).sqrt()
                self.spreads[order, slot] = torch.where(spread > TINY, spread, torch.ones_like(spread))

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return scaled targets [S, P] and the features [S, 2F] that the linear head reads."""
        slots = torch.searchsorted(self.elements, graph.species)
        scalars, vectors, tensors = self._first_look(_moments(graph), slots)
        scalars, vectors, tensors = self.rounds[0](scalars, vectors, tensors)
        edges = self._edges(graph) if self.messages else None
        for message, blocks in zip(self.messages, self.rounds[1:], strict=True):
            scalars, vectors = message(scalars, vectors, edges)
            scalars, vectors, tensors = blocks(scalars, vectors, tensors)
        local = self.local(scalars)
        shares = softmax(self.attention(scalars), graph.structure, num_nodes=graph.n_structures)
        mean = scatter(local, graph.structure, dim_size=graph.n_structures, reduce="mean")
        extreme = scatter(local * shares, graph.structure, dim_size=graph.n_structures, reduce="sum")
        features = torch.cat([mean, extreme], dim=1)
        return self.head(features), features

    def gradient(self, value: Tensor, graph: Graph) -> Tensor:
        """Return the gradient [H, 3] of a number with respect to the graph's vectors, by way of the moments."""
        inputs = [_moments(graph), graph.vectors] if self.messages else [_moments(graph)]
        of_moments, *of_vectors = torch.autograd.grad(value, inputs, create_graph=True)
        through = pair_gradient(graph, of_moments, self.elements, self.cutoff, self.n_radial)
        return through + of_vectors[0] if of_vectors else through

    def _first_look(self, moments: Tensor, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return learned mixtures of the moments: scalars [A, F], vectors [A, 3, F], tensors [A, 5, F]."""
        scales = GAIN / moments.shape[1] ** 0.5 / self.spreads[:, slots]  # [3, A, Zn]
        scalars = self.embedding(slots) + self.scalars((moments[..., 0] - self.centre[slots]) * scales[0])
        of_vectors, of_tensors = self.strengths(slots)[:, None].chunk(2, dim=2)
        vectors = self.vectors((moments[..., 1:4] * scales[1, :, :, None]).transpose(1, 2)) * of_vectors
        tensors = self.tensors((moments[..., 4:9] * scales[2, :, :, None]).transpose(1, 2)) * of_tensors
        return scalars, vectors, tensors

    def _edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        distances = torch.linalg.vector_norm(graph.vectors, dim=1)
        directions = graph.vectors / distances[:, None]
        index = torch.stack([torch.cat([graph.i, graph.j]), torch.cat([graph.j, graph.i])])
        return index, radial_basis(distances, self.cutoff, self.n_radial), torch.cat([-directions, directions])


def _moments(graph: Graph) -> Tensor:
    if graph.moments is None:
        raise TypeError("a property network reads graphs with moments; prepare them first")
    return graph.moments
