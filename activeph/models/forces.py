"""Forces as derivatives of a network's energy, and how far they are from labelled ones.

One label of N atoms holds one energy but 3N forces. They teach the layers that all targets share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import scatter

from activeph.graphs.batch import Graph
from activeph.models.graph_network import GraphNetwork
from activeph.models.scaling import Scaling
from activeph.records import Dataset

ENERGY = "energy_per_atom"


@dataclass(frozen=True, eq=False)
class ForceLabels:
    """Forces in units of their root mean square, and how the network's energy is to be differentiated to meet them."""

    values: Sequence[Tensor]  # one [N, 3] per structure; NaN where the label has none
    column: int  # of the scaled targets: the energy per atom
    factor: float  # 1/Å: scale of the energy per atom over root mean square of the forces

    def part(self, rows: Sequence[int]) -> ForceLabels:
        """Return the labels of some structures."""
        return replace(self, values=[self.values[row] for row in rows])


def with_energy(dataset: Dataset) -> tuple[Dataset, int]:
    """Return a dataset whose targets hold the energy per atom, and its column; added as the last one if need be."""
    if ENERGY in dataset.target_names:
        return dataset, dataset.target_names.index(ENERGY)
    counts = np.concatenate([np.full(len(block), block.species.shape[1]) for block in dataset.blocks])
    targets = np.concatenate([dataset.targets, (dataset.energies / counts)[:, None]], axis=1)
    return replace(dataset, targets=targets), targets.shape[1] - 1


def has_forces(dataset: Dataset) -> bool:
    """Return whether a dataset holds forces to learn from: finite ones that are not all zero."""
    return any(bool(np.any(np.abs(forces[np.isfinite(forces)]) > 0)) for forces in dataset.forces)


def force_labels(dataset: Dataset, column: int, scaling: Scaling, device: torch.device) -> ForceLabels:
    """Return the forces of a dataset, one tensor per structure in its order."""
    known = np.concatenate([forces[np.isfinite(forces)] for forces in dataset.forces])
    unit = float(np.sqrt(np.mean(known**2)))
    values = [torch.from_numpy(one / unit).float().to(device) for forces in dataset.forces for one in forces]
    return ForceLabels(values, column, float(scaling.scale[column]) / unit)


def atom_forces(network: GraphNetwork, graph: Graph, energies: Tensor) -> Tensor:
    """Return minus the derivatives [A, 3] of whole-cell energies [S] with respect to the positions, per Å.

    ``energies`` must come from the network's values of this graph, which :func:`differentiable` has returned.
    """
    return on_atoms(network.gradient(energies.sum(), graph), graph)


def on_atoms(gradient: Tensor, graph: Graph) -> Tensor:
    """Return the forces [A, 3] that the gradient [H, 3] of an energy with respect to the graph's vectors means."""
    ends = torch.cat([graph.i, graph.j])
    forces: Tensor = scatter(torch.cat([gradient, -gradient]), ends, dim_size=len(graph.species), reduce="sum")
    return forces


def differentiable(graph: Graph) -> Graph:
    """Return a graph that derivatives with respect to vectors and moments can be taken of."""
    moments = None if graph.moments is None else graph.moments.detach().requires_grad_(True)
    return replace(graph, vectors=graph.vectors.detach().requires_grad_(True), moments=moments)


def force_loss(network: GraphNetwork, graph: Graph, scaled: Tensor, labels: ForceLabels) -> Tensor:
    """Return the mean over structures of their mean squared error of scaled forces; 0 where a label has none.

    ``scaled`` [S, P] are the network's values of the graph, ``labels`` those of its structures.
    """
    counts = torch.bincount(graph.structure, minlength=graph.n_structures)
    forces = atom_forces(network, graph, scaled[:, labels.column] * counts * labels.factor)
    wanted = torch.cat(list(labels.values))
    errors = torch.where(torch.isfinite(wanted), forces - wanted, 0.0).square().mean(dim=1)
    of_structures: Tensor = scatter(errors, graph.structure, dim_size=graph.n_structures, reduce="mean")
    return of_structures.mean()
