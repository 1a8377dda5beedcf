"""A small equivariant message-passing network after PaiNN (Schütt, Unke, Gastegger, arXiv:2102.03150).

Every atom carries scalars and vectors; vectors gather directions, so their norms and products know angles. Outputs
are means and soft extrema over atoms, hence intensive: a band edge is set by the most extreme surroundings in a cell,
an energy per atom by the mean one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter, softmax

from activeph.graphs.batch import Graph

MAX_ATOMIC_NUMBER = 118


def radial_basis(distances: Tensor, cutoff: float, n: int) -> Tensor:
    """Return sin(nπd/r_c)/d times a smooth cutoff [E, n] (the basis of PaiNN and DimeNet)."""
    order = torch.arange(1, n + 1, device=distances.device, dtype=distances.dtype) * (math.pi / cutoff)
    envelope = 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0)
    return torch.sin(distances[:, None] * order) * (envelope / distances)[:, None]


class Message(MessagePassing):  # type: ignore[misc]
    """Sends scalars and vectors along the edges, each weighted by a function of the distance."""

    def __init__(self, hidden: int, n_radial: int) -> None:
        super().__init__(aggr="sum", flow="source_to_target")
        self.sent = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3 * hidden))
        self.filter = nn.Linear(n_radial, 3 * hidden, bias=False)
        self.hidden = hidden

    def forward(self, scalars: Tensor, vectors: Tensor, edges: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return updated scalars [A, F] and vectors [A, 3F]; edges are (index [2, E], radial [E/2, n], unit [E, 3])."""
        index, radial, directions = edges
        weights = self.filter(radial)
        received = self.propagate(
            index,
            sent=self.sent(scalars),
            carried=vectors,
            weights=torch.cat([weights, weights]),
            directions=directions,
            size=(len(scalars), len(scalars)),
        )
        return scalars + received[:, : self.hidden], vectors + received[:, self.hidden :]

    def message(self, sent_j: Tensor, carried_j: Tensor, weights: Tensor, directions: Tensor) -> Tensor:
        """Return what travels along each edge [E, 4F]: scalars, and vectors of three components."""
        scalar, along, kept = (sent_j * weights).chunk(3, dim=1)
        vector = directions[:, :, None] * along[:, None] + carried_j.view(-1, 3, self.hidden) * kept[:, None]
        return torch.cat([scalar, vector.flatten(1)], dim=1)


class Update(nn.Module):
    """Lets scalars and vectors of one atom act on each other through norms and inner products."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Linear(hidden, 2 * hidden, bias=False)
        self.gate = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3 * hidden))

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated scalars [A, F] and vectors [A, 3F]."""
        space = vectors.view(len(vectors), 3, scalars.shape[1])
        left, right = self.mix(space).chunk(2, dim=2)
        norms = torch.sqrt(torch.sum(right**2, dim=1) + 1e-6)  # the offset keeps the gradient finite at zero
        turn, product, shift = self.gate(torch.cat([scalars, norms], dim=1)).chunk(3, dim=1)
        scalars = scalars + shift + product * torch.sum(left * right, dim=1)
        return scalars, (space + left * turn[:, None]).flatten(1)


class PropertyNet(nn.Module):
    """Scalar properties of crystals, invariant to rotation, translation, permutation and choice of cell."""

    def __init__(self, n_targets: int, cutoff: float, hidden: int, layers: int, n_radial: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.n_radial = n_radial
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, hidden)
        self.messages = nn.ModuleList(Message(hidden, n_radial) for _ in range(layers))
        self.updates = nn.ModuleList(Update(hidden) for _ in range(layers))
        self.attention = nn.Linear(hidden, hidden)
        self.local = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.head = nn.Linear(2 * hidden, n_targets)
        nn.init.zeros_(self.head.weight)  # the untrained network predicts the training mean
        nn.init.zeros_(self.head.bias)

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return scaled targets [S, P] and the features [S, 2F] that the linear head reads."""
        distances = torch.linalg.vector_norm(graph.vectors, dim=1)
        radial = radial_basis(distances, self.cutoff, self.n_radial)
        directions = graph.vectors / distances[:, None]
        index = torch.stack([torch.cat([graph.i, graph.j]), torch.cat([graph.j, graph.i])])
        edges = (index, radial, torch.cat([-directions, directions]))
        scalars = self.embedding(graph.species)
        vectors = scalars.new_zeros(len(scalars), 3 * scalars.shape[1])
        for message, update in zip(self.messages, self.updates, strict=True):
            scalars, vectors = message(scalars, vectors, edges)
            scalars, vectors = update(scalars, vectors)
        local = self.local(scalars)
        shares = softmax(self.attention(scalars), graph.structure, num_nodes=graph.n_structures)
        mean = scatter(local, graph.structure, dim_size=graph.n_structures, reduce="mean")
        extreme = scatter(local * shares, graph.structure, dim_size=graph.n_structures, reduce="sum")
        features = torch.cat([mean, extreme], dim=1)
        return self.head(features), features
