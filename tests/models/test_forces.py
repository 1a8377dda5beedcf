"""Forces are the exact derivatives of the energy, and labels of them make every target easier to learn."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from activeph.graphs.batch import Graph, block_graph
from activeph.graphs.moments import neighbour_moments, pair_gradient, radial_basis, radial_slopes
from activeph.graphs.neighbours import NeighbourFinder
from activeph.models.forces import atom_forces, differentiable, has_forces, with_energy
from activeph.models.gnn import GnnModel
from activeph.models.property_net import PropertyNet
from activeph.records import Block, Dataset, System

CUTOFF, N_RADIAL = 4.0, 5


def graph_of(block: Block) -> Graph:
    """Return a graph in double precision."""
    single = block_graph(block, NeighbourFinder({}, CUTOFF))
    edges = NeighbourFinder({}, CUTOFF).edges(block)
    graph = replace(single, vectors=torch.from_numpy(np.ascontiguousarray(edges.vectors)))
    return replace(graph, moments=neighbour_moments(graph, torch.unique(graph.species), CUTOFF, N_RADIAL))


def block_of(system: System, n: int) -> Block:
    cell = system.supercell
    positions = cell.positions + 0.1 * np.random.default_rng(0).normal(size=(n, len(cell.numbers), 3))
    return Block(system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.zeros(n))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["rocksalt", "triclinic"])
def test_forces_are_minus_the_derivatives_of_the_energy(name: str, layers: int, crystal: Callable[..., System]) -> None:
    block = block_of(crystal(name), 2)
    graph = differentiable(graph_of(block))
    torch.manual_seed(0)
    net = PropertyNet(2, torch.unique(graph.species), CUTOFF, N_RADIAL, (8, 2, layers))
    net.standardise(graph_of(block))
    torch.nn.init.normal_(net.head.weight)
    net = net.double().eval()
    forces = atom_forces(net, graph, net(graph)[0][:, 1]).reshape(block.positions.shape)
    assert forces.abs().max() > 1e-3
    torch.testing.assert_close(forces.sum(dim=1), torch.zeros(2, 3, dtype=torch.float64), atol=1e-9, rtol=0)
    step = 1e-4
    for structure, atom, axis in ((0, 0, 0), (0, 1, 2), (1, 2, 1)):
        energies = []
        for sign in (1, -1):
            moved = block.positions.copy()
            moved[structure, atom, axis] += sign * step
            values = net(graph_of(replace(block, positions=moved)))[0]
            energies.append(values[structure, 1].item())
        expected = -(energies[0] - energies[1]) / (2 * step)
        assert float(forces[structure, atom, axis]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_pair_gradient_is_that_of_the_moments(crystal: Callable[..., System]) -> None:
    graph = graph_of(block_of(crystal("wurtzite"), 1))
    elements = torch.unique(graph.species)
    wanted = torch.randn(graph.moments.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors = graph.vectors.clone().requires_grad_(True)
    value = torch.sum(wanted * neighbour_moments(replace(graph, vectors=vectors), elements, CUTOFF, N_RADIAL))
    (expected,) = torch.autograd.grad(value, [vectors])
    torch.testing.assert_close(pair_gradient(graph, wanted, elements, CUTOFF, N_RADIAL), expected)


def test_radial_slopes() -> None:
    distances = torch.linspace(1.5, 3.99, 30, dtype=torch.float64)
    step = 1e-5
    numeric = (radial_basis(distances + step, 4.0, 6) - radial_basis(distances - step, 4.0, 6)) / (2 * step)
    torch.testing.assert_close(radial_slopes(distances, 4.0, 6), numeric, rtol=1e-6, atol=1e-7)


def labelled(system: System, n: int, seed: int, names: tuple[str, ...] = ("band_gap", "energy_per_atom")) -> Dataset:
    """Anharmonic springs between unlike atoms closer than 3.5 Å; the gap follows the same springs."""
    cell = system.supercell
    rng = np.random.default_rng(seed)
    positions = cell.positions + 0.12 * rng.normal(size=(n, len(cell.numbers), 3))
    block = Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )
    edges = NeighbourFinder({system.name: system}, 3.5).edges(block)
    lengths = np.linalg.norm(edges.vectors, axis=1)
    stretch = np.exp(-(lengths - 2.8) / 0.4)
    n_atoms = len(cell.numbers)
    energies = np.bincount(edges.i // n_atoms, stretch, n)
    pull = (stretch / 0.4 / lengths)[:, None] * edges.vectors  # minus the derivative with respect to the vector
    forces = np.zeros((n * n_atoms, 3))
    np.add.at(forces, edges.j, pull)
    np.add.at(forces, edges.i, -pull)
    columns = {"band_gap": 5 - 0.1 * energies, "energy_per_atom": energies / n_atoms}
    targets = np.stack([columns[name] for name in names], axis=1)
    return Dataset((block,), names, targets, energies, (forces.reshape(positions.shape),), np.zeros((n, 6)))


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


def error(model: GnnModel, train: Dataset, test: Dataset, system: System) -> np.ndarray:
    """Return root mean square errors in standard deviations [P], mean over two members."""
    systems = {system.name: system}
    states = [model.fit(train, systems, seed) for seed in range(2)]
    miss = model.load(states, systems).predict(test.blocks[0]).members - test.targets
    return np.sqrt(np.mean(miss**2, axis=(0, 1))) / test.targets.std(axis=0)


MODEL = GnnModel(members=2, steps=100, hidden=12, cutoff=4.2)


@pytest.mark.parametrize("names", [("band_gap", "energy_per_atom"), ("band_gap",)])
def test_forces_help_to_learn_from_few_labels(names: tuple[str, ...], system: System) -> None:
    train, test = labelled(system, 20, 0, names), labelled(system, 100, 1, names)
    without = MODEL.model_copy(update={"force_weight": 0.0})
    assert np.all(error(MODEL, train, test, system) < 0.8 * error(without, train, test, system))


def test_labels_without_forces_are_learned_as_if_none_were_asked_for(system: System) -> None:
    systems = {system.name: system}
    data = labelled(system, 12, 0)
    bare = replace(data, forces=(np.full_like(data.forces[0], np.nan),))
    assert not has_forces(bare)
    assert not has_forces(replace(data, forces=(np.zeros_like(data.forces[0]),)))
    without = MODEL.model_copy(update={"force_weight": 0.0})
    states = [MODEL.fit(bare, systems, 0), without.fit(data, systems, 0)]
    block = data.blocks[0]
    first, second = (MODEL.load([state], systems).predict(block).members for state in states)
    assert np.array_equal(first, second)


def test_some_labels_may_lack_forces(system: System) -> None:
    data = labelled(system, 20, 0)
    some = data.forces[0].copy()
    some[::2] = np.nan
    test = labelled(system, 100, 1)
    without = MODEL.model_copy(update={"force_weight": 0.0})
    half = error(MODEL, replace(data, forces=(some,)), test, system)
    assert np.all(half < 0.9 * error(without, data, test, system))


def test_forces_that_come_later_start_the_network_afresh(system: System) -> None:
    systems = {system.name: system}
    data = labelled(system, 14, 0, ("band_gap",))
    bare = replace(data, forces=(np.full_like(data.forces[0], np.nan),))
    warm, cold = (MODEL.fit(data, systems, 0, earlier) for earlier in (MODEL.fit(bare, systems, 0), None))
    block = data.blocks[0]
    predictions = [MODEL.load([state], systems).predict(block) for state in (warm, cold)]
    assert np.array_equal(predictions[0].members, predictions[1].members)
    assert predictions[0].members.shape == (1, 14, 1)  # the energy is learned but not shown


def test_energy_is_added_where_it_is_no_target(system: System) -> None:
    data = labelled(system, 5, 0, ("band_gap",))
    learned, column = with_energy(data)
    assert column == 1
    np.testing.assert_allclose(learned.targets[:, 1], data.energies / 8)
    assert with_energy(labelled(system, 5, 0))[1] == 1


def test_curve_tells_the_losses(system: System) -> None:
    state = MODEL.fit(labelled(system, 20, 0), {system.name: system}, 0)
    curve = np.array(MODEL.learning_curve(state))
    assert curve.shape[1] == 4
    assert curve[0, 0] == 0
    assert np.all(np.diff(curve[:, 0]) > 0)
    assert np.all(np.isfinite(curve[1:]))
    assert curve[-1, 3] < 0.5 * curve[1, 3]  # forces are learned
    assert not torch.load(io.BytesIO(state), weights_only=True)["values"].isnan().any()
