"""Blocks as torch tensors: what networks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from activeph.graphs.neighbours import NeighbourFinder
from activeph.records import Block, IntArray


@dataclass(frozen=True, eq=False)
class Graph:
    """Structures as one graph without edges between them; every pair of atoms is held once.

    A graph made for networks that read its moments alone has no pairs.
    """

    species: Tensor  # [A] atomic numbers
    structure: Tensor  # [A] index of the structure an atom belongs to
    i: Tensor  # [H]
    j: Tensor  # [H]
    vectors: Tensor  # [H, 3] Å, from i to j
    n_structures: int
    moments: Tensor | None = None  # [A, Z n, 9], see :mod:`activeph.graphs.moments`

    def to(self, device: torch.device) -> Graph:
        """Return the graph in the memory of a device."""
        return Graph(
            self.species.to(device),
            self.structure.to(device),
            self.i.to(device),
            self.j.to(device),
            self.vectors.to(device),
            self.n_structures,
            None if self.moments is None else self.moments.to(device),
        )


def block_graph(block: Block, finder: NeighbourFinder, precision: type[np.floating[Any]] = np.float32) -> Graph:
    """Return all configurations of a block as one graph; in single precision the vectors are rounded last."""
    edges = finder.edges(block)
    return replace(
        atoms_graph(block),
        i=torch.from_numpy(edges.i),
        j=torch.from_numpy(edges.j),
        vectors=torch.from_numpy(edges.vectors.astype(precision)),
    )


def atoms_graph(block: Block) -> Graph:
    """Return all configurations of a block as one graph without pairs."""
    n_structures, n_atoms = block.species.shape
    nothing = torch.zeros(0, dtype=torch.int64)
    return Graph(
        torch.from_numpy(np.array(block.species, dtype=np.int64).reshape(-1)),
        torch.arange(n_structures).repeat_interleave(n_atoms),
        nothing,
        nothing,
        torch.zeros(0, 3),
        n_structures,
    )


def join_graphs(graphs: Sequence[Graph]) -> Graph:
    """Return several graphs as one, structures and atoms renumbered in order."""
    atoms = np.cumsum([0, *(len(graph.species) for graph in graphs)])
    structures = np.cumsum([0, *(graph.n_structures for graph in graphs)])
    moments = [graph.moments for graph in graphs if graph.moments is not None]
    joined = Graph(
        torch.cat([graph.species for graph in graphs]),
        torch.cat([graph.structure + int(first) for graph, first in zip(graphs, structures[:-1], strict=True)]),
        torch.cat([graph.i + int(first) for graph, first in zip(graphs, atoms[:-1], strict=True)]),
        torch.cat([graph.j + int(first) for graph, first in zip(graphs, atoms[:-1], strict=True)]),
        torch.cat([graph.vectors for graph in graphs]),
        int(structures[-1]),
    )
    return replace(joined, moments=torch.cat(moments)) if moments else joined


def slice_block(block: Block, rows: slice | IntArray) -> Block:
    """Return some configurations of a block."""
    return Block(block.system, block.species[rows], block.positions[rows], block.cells[rows], block.temperatures[rows])
