"""Many structures as the tensors that a MACE network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from activeph.graphs.neighbours import NeighbourFinder
from activeph.records import Block

Data = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """What the tensors of a network look like."""

    elements: tuple[int, ...]  # sorted atomic numbers
    head: int
    dtype: torch.dtype
    device: torch.device


def block_data(block: Block, finder: NeighbourFinder, layout: Layout) -> Data:
    """Return a block as tensors; neighbours come from the finder, every pair in both directions."""
    elements, device = layout.elements, layout.device
    n_structures, n_atoms = block.species.shape
    edges = finder.edges(block)
    positions = block.positions.reshape(-1, 3)
    inverse = np.linalg.inv(block.cells)[edges.i // n_atoms]
    away = edges.vectors - positions[edges.j] + positions[edges.i]
    shifts = np.rint(np.einsum("hx,hxy->hy", away, inverse))
    slots = np.searchsorted(np.array(elements), block.species.ravel())

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device=device, dtype=layout.dtype)

    i, j, both = torch.from_numpy(edges.i), torch.from_numpy(edges.j), tensor(np.concatenate([shifts, -shifts]))
    senders = torch.cat([i, j]).to(device)
    cells = tensor(block.cells)
    structure = torch.arange(n_structures, device=device).repeat_interleave(n_atoms)
    return {
        "positions": tensor(positions),
        "node_attrs": tensor(np.eye(len(elements))[slots]),
        "edge_index": torch.stack([senders, torch.cat([j, i]).to(device)]),
        "unit_shifts": both,
        "shifts": torch.einsum("ex,exy->ey", both, cells[structure[senders]]),
        "cell": cells.reshape(-1, 3),
        "batch": structure,
        "ptr": torch.arange(n_structures + 1, device=device) * n_atoms,
        "head": torch.full((n_structures,), layout.head, device=device),
    }


def join_graphs(graphs: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Data:
    """Return single structures that MACE has read as one batch."""
    sizes = [len(graph.positions) for graph in graphs]
    ptr = torch.tensor(np.cumsum([0, *sizes]))
    joined = {
        name: torch.cat([getattr(graph, name) for graph in graphs]).to(device=device, dtype=dtype)
        for name in ("positions", "node_attrs", "unit_shifts", "shifts", "cell", "forces", "stress")
    }
    return joined | {
        "edge_index": torch.cat([graph.edge_index + first for graph, first in zip(graphs, ptr, strict=False)], 1).to(
            device
        ),
        "batch": torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(sizes)).to(device),
        "ptr": ptr.to(device),
        "head": torch.stack([graph.head for graph in graphs]).to(device),
    }


def evaluate(network: torch.nn.Module, data: Data, training: bool, derivatives: bool = True) -> Data:
    """Return ``energy`` [S] without that of the atoms, ``forces`` [A, 3], ``stress`` [S, 3, 3], node ``features``.

    Forces and stresses are zero where derivatives are not asked for.
    """
    fresh = dict(data, positions=data["positions"].detach())  # MACE replaces entries by strained ones
    out = network(fresh, training=training, compute_force=derivatives, compute_stress=derivatives)
    return {
        "energy": out["interaction_energy"],
        "forces": out["forces"] if derivatives else torch.zeros_like(data["positions"]),
        "stress": out["stress"] if derivatives else torch.zeros_like(data["cell"]).view(-1, 3, 3),
        "features": out["node_feats"],
    }
