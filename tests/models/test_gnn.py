"""What the network must know of physics before it has seen a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from activeph.graphs.batch import Graph, block_graph, join_graphs, slice_block
from activeph.graphs.moments import neighbour_moments
from activeph.graphs.neighbours import NeighbourFinder
from activeph.models.gnn import GnnModel
from activeph.models.property_net import PropertyNet
from activeph.records import Block, System

LAYERS = pytest.mark.parametrize("layers", [1, 2])


def network_for(graph: Graph, layers: int = 1) -> PropertyNet:
    """Return a network with random weights that knows the scales of a graph."""
    torch.manual_seed(0)
    net = PropertyNet(2, torch.unique(graph.species), 4.0, 6, (8, 2, layers))
    net.standardise(graph)
    torch.nn.init.normal_(net.head.weight)
    return net.eval()


def block_of(system: System, n: int, amplitude: float = 0.1) -> Block:
    cell = system.supercell
    rng = np.random.default_rng(0)
    positions = cell.positions + amplitude * rng.normal(size=(n, len(cell.numbers), 3))
    return Block(system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.zeros(n))


def graph_of(block: Block, cutoff: float = 4.0) -> Graph:
    graph = block_graph(block, NeighbourFinder({}, cutoff))
    return replace(graph, moments=neighbour_moments(graph, torch.unique(graph.species), cutoff, 6))


def repeated(block: Block, times: tuple[int, int, int]) -> Block:
    """The same crystals written with a cell several times as large."""
    shifts = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = np.concatenate([block.positions + (shift @ block.cells)[:, None] for shift in shifts], axis=1)
    cells = block.cells * np.array(times)[:, None]
    return Block(block.system, np.tile(block.species, len(shifts)), positions, cells, block.temperatures)


@LAYERS
@pytest.mark.parametrize("name", ["rocksalt", "triclinic", "wurtzite"])
def test_a_larger_cell_of_the_same_crystal_has_the_same_values(
    name: str, layers: int, crystal: Callable[..., System]
) -> None:
    block = block_of(crystal(name), 2)
    graph = graph_of(block)
    net = network_for(graph, layers)
    assert net(graph)[0].std() > 1e-3
    torch.testing.assert_close(net(graph)[0], net(graph_of(repeated(block, (2, 1, 2))))[0], rtol=1e-3, atol=1e-4)


@LAYERS
def test_rotation_changes_nothing_and_moments_do_turn(layers: int, crystal: Callable[..., System]) -> None:
    block = block_of(crystal("triclinic"), 3, 0.2)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = replace(block, positions=block.positions @ turn.T, cells=block.cells @ turn.T)
    graph, other = graph_of(block), graph_of(turned)
    net = network_for(graph, layers)
    torch.testing.assert_close(net(graph)[0], net(other)[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(graph.moments, other.moments, atol=1e-2)
    squares = [torch.sum(g.moments[..., 4:9] ** 2, dim=-1) for g in (graph, other)]
    torch.testing.assert_close(*squares, rtol=1e-3, atol=1e-4)


def test_angles_matter() -> None:
    """Two bent molecules with equal distances but different angles are told apart."""

    def molecule(angle: float) -> Graph:
        ends = 2.0 * np.array([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
        positions = np.concatenate([[[0.0, 0.0, 0.0]], ends])[None] + 10
        return graph_of(Block("m", np.array([[8, 1, 1]]), positions, 30 * np.eye(3)[None], np.zeros(1)), 2.2)

    net = network_for(molecule(2.0))
    assert torch.abs(net(molecule(1.6))[0] - net(molecule(2.6))[0]).max() > 1e-4


@LAYERS
def test_values_are_smooth_where_an_atom_leaves_the_cutoff(layers: int) -> None:
    def pair(distance: float) -> Graph:
        positions = np.array([[[0.0, 0, 0], [distance, 0, 0]]])
        return graph_of(Block("m", np.array([[8, 1]]), positions, 30 * np.eye(3)[None], np.zeros(1)))

    net = network_for(pair(3.0), layers)
    torch.testing.assert_close(net(pair(3.9999))[0], net(pair(4.0001))[0], atol=1e-4, rtol=0)
    assert torch.abs(net(pair(3.0))[0] - net(pair(3.5))[0]).max() > 1e-3


@LAYERS
def test_joined_graphs_are_predicted_as_one_by_one(layers: int, crystal: Callable[..., System]) -> None:
    block = block_of(crystal("rocksalt"), 5)
    singles = [graph_of(slice_block(block, slice(row, row + 1))) for row in range(5)]
    net = network_for(join_graphs(singles), layers)
    alone = torch.cat([net(graph)[0] for graph in singles])
    torch.testing.assert_close(net(join_graphs(singles))[0], alone, rtol=1e-4, atol=1e-5)


def test_untrained_network_predicts_the_training_mean(crystal: Callable[..., System]) -> None:
    graph = graph_of(block_of(crystal("rocksalt"), 3))
    net = PropertyNet(2, torch.unique(graph.species), 4.0, 6, (8, 2, 1))
    net.standardise(graph)
    assert torch.all(net(graph)[0] == 0)


def test_steps_grow_with_the_labels_but_not_without_bound() -> None:
    model = GnnModel()
    assert model.plan(10).steps == model.steps
    assert model.plan(10**6).steps == 4 * model.steps
    assert model.plan(300).steps * model.batch == 25 * 300
