"""The origin study's network: element features, one scalar per edge, maximum over atoms."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import BatchNorm, GraphConv, global_max_pool

from activeph.graphs.batch import Graph
from activeph.models.graph_network import GraphNetwork

SHORTEST = 0.7115  # Å, lower end of the published distance scale


class GraphConvNet(GraphNetwork):
    """Two blocks of GraphConv, BatchNorm and ReLU; max pool; dropout; Linear(h, 16), ReLU, Linear(16, P)."""

    elements: Tensor

    def __init__(self, n_targets: int, cutoff: float, hidden: int, dropout: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("elements", element_features(), persistent=False)
        self.convolutions = nn.ModuleList([GraphConv(4, hidden), GraphConv(hidden, hidden)])
        self.norms = nn.ModuleList([BatchNorm(hidden), BatchNorm(hidden)])
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, 16), nn.ReLU())
        self.head = nn.Linear(16, n_targets)
        nn.init.zeros_(self.head.weight)  # the untrained network predicts the training mean
        nn.init.zeros_(self.head.bias)

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return scaled targets [S, P] and the features [S, 16] that the linear head reads."""
        distances = torch.linalg.vector_norm(graph.vectors, dim=1)
        weights = (distances - SHORTEST) / (self.cutoff - SHORTEST)
        index = torch.stack([torch.cat([graph.i, graph.j]), torch.cat([graph.j, graph.i])])
        atoms = self.elements[graph.species]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            atoms = torch.relu(norm(convolution(atoms, index, torch.cat([weights, weights]))))
        features = self.dense(global_max_pool(atoms, graph.structure, graph.n_structures))
        return self.head(features), features


def element_features() -> Tensor:
    """Return number, electronegativity (Pauling), mass and radius of all elements [119, 4], scaled to [0, 1].

    The published scale spans the Materials Project; this one spans the periodic table. Elements without an
    electronegativity or radius get 0.
    """
    from ase.data import atomic_masses, covalent_radii

    from activeph.models.electronegativity import PAULING

    numbers = np.arange(len(atomic_masses), dtype=np.float64)
    pauling = np.array([PAULING.get(int(number), 0.0) for number in numbers])
    columns = np.stack([numbers, pauling, atomic_masses, covalent_radii], axis=1)
    return torch.from_numpy((columns / columns.max(axis=0)).astype(np.float32))
