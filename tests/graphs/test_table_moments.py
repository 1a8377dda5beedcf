"""Moments summed over tables are those of graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from activeph.graphs.batch import block_graph
from activeph.graphs.moments import neighbour_moments
from activeph.graphs.neighbours import TABLE, NeighbourFinder
from activeph.graphs.table_moments import table_moments
from activeph.models.gnn import GnnSettings
from activeph.models.origin import OriginModel
from activeph.records import Block, System

CUTOFF, N = 4.5, 5
Crystal = Callable[..., System]


def make_block(system: System, n: int, strain: float = 0.0, amplitude: float = 0.1) -> Block:
    rng = np.random.default_rng(0)
    cell = system.supercell
    deformation = np.eye(3) + strain * rng.normal(size=(n, 3, 3))
    positions = cell.positions @ deformation + amplitude * rng.normal(size=(n, *cell.positions.shape))
    return Block(system.name, np.tile(cell.numbers, (n, 1)), positions, cell.cell @ deformation, np.full(n, 300.0))


def of_graph(block: Block, finder: NeighbourFinder, elements: np.ndarray) -> torch.Tensor:
    return neighbour_moments(block_graph(block, finder), torch.from_numpy(elements), CUTOFF, N)


@pytest.mark.parametrize("name", ["rocksalt", "perovskite", "triclinic"])
@pytest.mark.parametrize("strain", [0.0, 0.02])
def test_moments_are_those_of_a_graph(crystal: Crystal, name: str, strain: float) -> None:
    system = crystal(name)
    finder = NeighbourFinder({system.name: system}, CUTOFF)
    elements = np.unique(np.append(system.supercell.numbers, 118))  # elements that this crystal lacks have zeros
    block = make_block(system, TABLE + 3, strain)
    found, expected = table_moments(block, finder, elements, N), of_graph(block, finder, elements)
    assert found is not None
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6 * float(expected.abs().max()))


def test_large_displacements_are_searched(crystal: Crystal) -> None:
    system = crystal("rocksalt")
    finder = NeighbourFinder({system.name: system}, CUTOFF)
    elements = np.unique(system.supercell.numbers)
    block = make_block(system, 3, amplitude=1.2)
    expected = of_graph(block, finder, elements)
    found = table_moments(block, finder, elements, N)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_a_block_of_changing_species_is_left_to_graphs(crystal: Crystal) -> None:
    system = crystal("rocksalt")
    finder = NeighbourFinder({system.name: system}, CUTOFF)
    block = make_block(system, 3)
    species = block.species.copy()
    species[1] = species[1, ::-1]
    elements = np.unique(species)
    mixed = replace(block, species=species)
    assert table_moments(mixed, finder, elements, N) is None
    read = GnnSettings(cutoff=CUTOFF, radial=N).read(mixed, finder, torch.from_numpy(elements))
    torch.testing.assert_close(read.moments, of_graph(mixed, finder, elements))


def test_networks_read_pairs_where_they_need_them(crystal: Crystal) -> None:
    system = crystal("rocksalt")
    finder = NeighbourFinder({system.name: system}, CUTOFF)
    block = make_block(system, 3)
    elements = torch.from_numpy(np.unique(system.supercell.numbers))
    alone = GnnSettings(cutoff=CUTOFF, radial=N).read(block, finder, elements)
    passing = GnnSettings(cutoff=CUTOFF, radial=N, layers=2).read(block, finder, elements)
    assert len(alone.i) == len(alone.j) == len(alone.vectors) == 0
    assert len(passing.i) == len(OriginModel(cutoff=CUTOFF).read(block, finder, elements).i) > 0
    torch.testing.assert_close(alone.moments, passing.moments, rtol=0, atol=1e-5)
    assert torch.equal(alone.structure, passing.structure)
    assert torch.equal(alone.species, passing.species)
