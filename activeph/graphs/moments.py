"""Moments of the surroundings: what an atom's first look at its neighbours yields, without any weight to learn.

M[i, Zn, lm] = Σ_j R_n(d_ij) Y_lm(r_ij / d_ij) over neighbours j of element Z within the cutoff, l = 0, 1, 2. Any first
round of message passing is a linear map of these sums, so they are computed once for a whole ensemble and, for
labelled structures, once for a whole training (cf. the atomic cluster expansion, R. Drautz, Phys. Rev. B 99, 014104).
Forces need their derivatives: linear as well, hence cheap to train on (:func:`pair_gradient`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from activeph.graphs.batch import Graph

N_HARMONICS = 9  # 1 + 3 + 5 components of l = 0, 1, 2
PARITY = (1, -1, -1, -1, 1, 1, 1, 1, 1)  # of each harmonic under r -> -r


def radial_basis(distances: Tensor, cutoff: float, n: int) -> Tensor:
    """Return sin(nπd/r_c)/d, n = 1..n, times a cosine cutoff [E, n] (DimeNet's basis, arXiv:2003.03123)."""
    order = torch.arange(1, n + 1, device=distances.device, dtype=distances.dtype) * (math.pi / cutoff)
    envelope = 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0)
    return torch.sin(distances[:, None] * order) * (envelope / distances)[:, None]


def radial_slopes(distances: Tensor, cutoff: float, n: int) -> Tensor:
    """Return the derivatives [E, n] of :func:`radial_basis` with respect to the distances."""
    order = torch.arange(1, n + 1, device=distances.device, dtype=distances.dtype) * (math.pi / cutoff)
    envelope = 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0)
    slope = -0.5 * (math.pi / cutoff) * torch.sin(distances * (math.pi / cutoff))
    waves = distances[:, None] * order
    return (
        torch.cos(waves) * order * (envelope / distances)[:, None]
        + torch.sin(waves) * ((slope - envelope / distances) / distances)[:, None]
    )


def harmonics(directions: Tensor) -> Tensor:
    """Return the real harmonics of unit vectors [E, 9], each l with the squares of its components summing to one."""
    x, y, z = directions.unbind(1)
    root = math.sqrt(3.0)
    second = [root * x * y, root * y * z, root * x * z, root / 2 * (x * x - y * y), 1.5 * z * z - 0.5]
    return torch.stack([torch.ones_like(x), x, y, z, *second], dim=1)


def harmonic_slopes(directions: Tensor) -> Tensor:
    """Return derivatives [E, 9, 3] of :func:`harmonics` with respect to the vector, times its length."""
    x, y, z = directions.unbind(1)
    none, one, root = torch.zeros_like(x), torch.ones_like(x), math.sqrt(3.0)
    rows = [
        (none, none, none),
        (one, none, none),
        (none, one, none),
        (none, none, one),
        (root * y, root * x, none),
        (none, root * z, root * y),
        (root * z, none, root * x),
        (root * x, -root * y, none),
        (none, none, 3.0 * z),
    ]
    slopes = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    radial = torch.sum(slopes * directions[:, None], dim=2, keepdim=True)  # the length of the vector does not matter
    return slopes - radial * directions[:, None]


def neighbour_moments(graph: Graph, elements: Tensor, cutoff: float, n_radial: int) -> Tensor:
    """Return the moments [A, Z n_radial, 9] of a graph; ``elements`` [Z] are sorted atomic numbers."""
    distances = torch.linalg.vector_norm(graph.vectors, dim=1)
    radial = radial_basis(distances, cutoff, n_radial)
    angular = harmonics(graph.vectors / distances[:, None])
    there = (radial[:, :, None] * angular[:, None, :]).flatten(1)  # [H, 9 n]
    back = (radial[:, :, None] * (angular * angular.new_tensor(PARITY))[:, None, :]).flatten(1)
    size = len(graph.species) * len(elements)
    sums: Tensor = scatter(torch.cat([there, back]), torch.cat(_rows(graph, elements)), dim_size=size, reduce="sum")
    return sums.reshape(len(graph.species), len(elements) * n_radial, N_HARMONICS)


def pair_gradient(graph: Graph, of_moments: Tensor, elements: Tensor, cutoff: float, n_radial: int) -> Tensor:
    """Return the gradient [H, 3] with respect to the graph's vectors of what has the gradient ``of_moments``.

    ``of_moments`` has the shape of :func:`neighbour_moments`; the result is linear in it and can be differentiated.
    """
    distances = torch.linalg.vector_norm(graph.vectors, dim=1)
    directions = graph.vectors / distances[:, None]
    there, back = _rows(graph, elements)
    of_sums = of_moments.reshape(-1, n_radial, N_HARMONICS)
    of_pairs = of_sums[there] + of_sums[back] * of_sums.new_tensor(PARITY)  # [H, n, 9]
    radial = torch.stack(
        [radial_slopes(distances, cutoff, n_radial), radial_basis(distances, cutoff, n_radial) / distances[:, None]], 1
    )
    along, across = torch.bmm(radial, of_pairs).unbind(1)  # [H, 9] each
    lengthwise = torch.sum(along * harmonics(directions), dim=1, keepdim=True) * directions
    gradient: Tensor = lengthwise + torch.bmm(across[:, None], harmonic_slopes(directions))[:, 0]
    return gradient


def _rows(graph: Graph, elements: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (atom, element of the other) that each pair adds to, at its first and at its second atom [H]."""
    slots = torch.searchsorted(elements, graph.species)
    return graph.i * len(elements) + slots[graph.j], graph.j * len(elements) + slots[graph.i]
