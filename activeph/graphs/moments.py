"""Moments of the surroundings: what an atom's first look at its neighbours yields, without any weight to learn.

M[i, Zn, lm] = Σ_j R_n(d_ij) Y_lm(r_ij / d_ij) over neighbours j of element Z within the cutoff, l = 0, 1, 2. Any first
round of message passing is a linear map of these sums, so they are computed once for a whole ensemble and, for
labelled structures, once for a whole training (cf. the atomic cluster expansion, R. Drautz, Phys. Rev. B 99, 014104).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from activeph.graphs.batch import Graph

N_HARMONICS = 9  # 1 + 3 + 5 components of l = 0, 1, 2


def radial_basis(distances: Tensor, cutoff: float, n: int) -> Tensor:
    """Return sin(nπd/r_c)/d, n = 1..n, times a cosine cutoff [E, n] (DimeNet's basis, arXiv:2003.03123)."""
    order = torch.arange(1, n + 1, device=distances.device, dtype=distances.dtype) * (math.pi / cutoff)
    envelope = 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0)
    return torch.sin(distances[:, None] * order) * (envelope / distances)[:, None]


def harmonics(directions: Tensor) -> Tensor:
    """Return the real harmonics of unit vectors [E, 9], each l with the squares of its components summing to one."""
    x, y, z = directions.unbind(1)
    root = math.sqrt(3.0)
    second = [root * x * y, root * y * z, root * x * z, root / 2 * (x * x - y * y), 1.5 * z * z - 0.5]
    return torch.stack([torch.ones_like(x), x, y, z, *second], dim=1)


def neighbour_moments(graph: Graph, elements: Tensor, cutoff: float, n_radial: int) -> Tensor:
    """Return the moments [A, Z n_radial, 9] of a graph; ``elements`` [Z] are sorted atomic numbers."""
    distances = torch.linalg.vector_norm(graph.vectors, dim=1)
    radial = radial_basis(distances, cutoff, n_radial)
    angular = harmonics(graph.vectors / distances[:, None])
    there = (radial[:, :, None] * angular[:, None, :]).flatten(1)  # [H, 9 n]
    parity = angular.new_tensor([1, -1, -1, -1, 1, 1, 1, 1, 1])
    back = (radial[:, :, None] * (angular * parity)[:, None, :]).flatten(1)
    slots = torch.searchsorted(elements, graph.species)
    rows = torch.cat([graph.i * len(elements) + slots[graph.j], graph.j * len(elements) + slots[graph.i]])
    size = len(graph.species) * len(elements)
    sums: Tensor = scatter(torch.cat([there, back]), rows, dim_size=size, reduce="sum")
    return sums.reshape(len(graph.species), len(elements) * n_radial, N_HARMONICS)
