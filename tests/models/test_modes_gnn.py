"""The default model takes, target by target, whoever knows more, and needs no force constants to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activeph.models.gnn import GnnSettings
from activeph.models.modes import ModesModel
from activeph.models.modes_gnn import ModesGnnModel, expert_errors, expert_weights
from activeph.phonons.modes import degenerate_sets, normal_modes
from activeph.records import Block, Dataset, System

SMALL = GnnSettings(steps=60, hidden=8, cutoff=4.2)


def make_dataset(system: System, n: int, seed: int = 0) -> Dataset:
    """One target is a function of two sets of modes, the other of the shortest distances."""
    cell = system.supercell
    rng = np.random.default_rng(seed)
    moved = 0.12 * rng.normal(size=(n, len(cell.numbers), 3))
    positions = cell.positions + moved
    modes = normal_modes(system)
    powers = modes.coordinates(moved, system.masses) ** 2
    sets = degenerate_sets(modes.frequencies)
    collective = powers[:, sets[0]].sum(axis=1) - 0.5 * powers[:, sets[-1]].sum(axis=1)
    apart = positions[:, :4, None] - positions[:, None, 4:]
    apart -= np.round(apart @ np.linalg.inv(cell.cell)) @ cell.cell
    local = np.exp(-np.linalg.norm(apart, axis=3) / 0.15).sum(axis=(1, 2)) * 1e6
    block = Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )
    targets = np.stack([collective, local], axis=1)
    return Dataset((block,), ("a", "b"), targets, targets[:, 0], (np.zeros_like(positions),), np.zeros((n, 6)))


def r2(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return 1 - np.sum((prediction - truth) ** 2, axis=0) / np.sum((truth - truth.mean(axis=0)) ** 2, axis=0)


def test_it_is_near_the_better_one_on_each_target(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    systems = {system.name: system}
    train, test = make_dataset(system, 50), make_dataset(system, 200, 1)
    model = ModesGnnModel(members=2, gnn=SMALL)
    scores = {}
    for name, one in (("both", model), ("modes", ModesModel(members=2))):
        states = [one.fit(train, systems, seed) for seed in range(2)]
        scores[name] = r2(one.load(states, systems).predict(test.blocks[0]).mean, test.targets)
    assert scores["modes"][0] > 0.9
    assert scores["both"][0] > scores["modes"][0] - 0.05
    assert scores["both"][1] > scores["modes"][1] - 0.02


def test_weights_follow_the_errors() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 2))
    left_over = np.stack([0.01 * rng.normal(size=30), rng.normal(size=30)], axis=1)
    guesses = np.concatenate([truth + 0.1 * rng.normal(size=(30, 2)), np.zeros((30, 2))], axis=1)
    weights = expert_weights(expert_errors(truth, left_over, guesses))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert weights[2, 0] < 0.01  # the expansion knows the first target
    assert weights[2, 1] > 0.97  # the network knows the second
    assert np.all(weights[1] <= weights[0])  # a correction of nothing has proved nothing


def test_no_held_out_label_no_preference() -> None:
    np.testing.assert_allclose(expert_weights(np.zeros((3, 0, 4))), 1 / 3)


def test_systems_without_force_constants_are_left_to_the_network(crystal: Callable[..., System]) -> None:
    known, bare = crystal("rocksalt"), replace(crystal("chain"), force_constants=None)
    first = make_dataset(known, 12)
    cell = bare.supercell
    positions = cell.positions + 0.1 * np.random.default_rng(0).normal(size=(9, len(cell.numbers), 3))
    second = Block(
        bare.name, np.tile(cell.numbers, (9, 1)), positions, np.tile(cell.cell, (9, 1, 1)), np.full(9, 300.0)
    )
    targets = np.concatenate([first.targets, np.random.default_rng(1).normal(size=(9, 2))])
    both = Dataset(
        (*first.blocks, second),
        ("a", "b"),
        targets,
        targets[:, 0],
        (*first.forces, np.zeros_like(positions)),
        np.zeros((21, 6)),
    )
    model = ModesGnnModel(members=2, gnn=SMALL)
    for systems, dataset in (({"rocksalt": known, "chain": bare}, both), ({"rocksalt": bare}, first)):
        members = [replace(system, name=name) for name, system in systems.items()]
        named = {system.name: system for system in members}
        predictor = model.load([model.fit(dataset, named, seed) for seed in range(2)], named)
        predictions = [predictor.predict(block) for block in dataset.blocks]
        assert len({prediction.features.shape[1] for prediction in predictions}) == 1
        assert all(np.all(np.isfinite(prediction.members)) for prediction in predictions)
        assert all(np.all(prediction.std > 0) for prediction in predictions)
