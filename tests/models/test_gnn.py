"""What the network must know of physics before it has seen a label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from activeph.graphs.batch import Graph, block_graph, join_graphs, slice_block
from activeph.graphs.neighbours import NeighbourFinder
from activeph.models.gnn import GnnModel
from activeph.models.painn import PropertyNet
from activeph.records import Block, System


def network(seed: int = 0) -> PropertyNet:
    torch.manual_seed(seed)
    net = PropertyNet(2, 4.0, 8, 2, 6)
    torch.nn.init.normal_(net.head.weight)
    return net.eval()


def block_of(system: System, n: int, amplitude: float = 0.1) -> Block:
    cell = system.supercell
    rng = np.random.default_rng(0)
    positions = cell.positions + amplitude * rng.normal(size=(n, len(cell.numbers), 3))
    return Block(system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.zeros(n))


def graph_of(block: Block, cutoff: float = 4.0) -> Graph:
    return block_graph(block, NeighbourFinder({}, cutoff))


def repeated(block: Block, times: tuple[int, int, int]) -> Block:
    """The same crystals written with a cell several times as large."""
    shifts = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = np.concatenate([block.positions + (shift @ block.cells)[:, None] for shift in shifts], axis=1)
    cells = block.cells * np.array(times)[:, None]
    return Block(block.system, np.tile(block.species, len(shifts)), positions, cells, block.temperatures)


@pytest.mark.parametrize("name", ["rocksalt", "triclinic", "wurtzite"])
def test_a_larger_cell_of_the_same_crystal_has_the_same_values(name: str, crystal: Callable[..., System]) -> None:
    block = block_of(crystal(name), 2)
    values = network()(graph_of(block))[0]
    again = network()(graph_of(repeated(block, (2, 1, 2))))[0]
    assert values.std() > 1e-3
    torch.testing.assert_close(values, again, rtol=1e-3, atol=1e-4)


def test_angles_matter() -> None:
    """Two bent chains with equal distances but different angles are told apart."""

    def chain(angle: float) -> Graph:
        ends = 2.0 * np.array([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
        positions = np.concatenate([[[0.0, 0.0, 0.0]], ends])[None] + 10
        return graph_of(Block("m", np.array([[8, 1, 1]]), positions, 30 * np.eye(3)[None], np.zeros(1)), 2.2)

    values = [network()(chain(angle))[0] for angle in (1.6, 2.6)]
    assert torch.abs(values[0] - values[1]).max() > 1e-4


def test_values_are_smooth_where_an_atom_leaves_the_cutoff() -> None:
    def pair(distance: float) -> torch.Tensor:
        positions = np.array([[[0.0, 0, 0], [distance, 0, 0]]])
        return network()(graph_of(Block("m", np.array([[8, 1]]), positions, 30 * np.eye(3)[None], np.zeros(1))))[0]

    torch.testing.assert_close(pair(3.9999), pair(4.0001), atol=1e-5, rtol=0)


def test_forward_of_joined_graphs_equals_one_by_one(crystal: Callable[..., System]) -> None:
    block = block_of(crystal("rocksalt"), 5)
    singles = [graph_of(slice_block(block, slice(row, row + 1))) for row in range(5)]
    alone = torch.cat([network()(graph)[0] for graph in singles])
    torch.testing.assert_close(network()(join_graphs(singles))[0], alone, rtol=1e-4, atol=1e-5)


def test_untrained_network_predicts_the_training_mean(crystal: Callable[..., System]) -> None:
    graph = graph_of(block_of(crystal("rocksalt"), 3))
    assert torch.all(PropertyNet(2, 4.0, 8, 2, 6)(graph)[0] == 0)


def test_steps_grow_with_the_labels_but_not_without_bound() -> None:
    model = GnnModel()
    assert model.plan(10).steps == model.steps
    assert model.plan(10**6).steps == 4 * model.steps
    assert model.plan(1000).steps * model.batch >= 10 * 1000 or model.plan(1000).steps == 4 * model.steps
