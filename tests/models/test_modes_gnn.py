"""The default model takes, target by target, whoever knows more, and needs no force constants to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.models.calibration import Recalibration
from activeph.models.gnn import GnnModel, GnnSettings
from activeph.models.modes import ModesModel, fit_modes
from activeph.models.modes_gnn import ModesGnnModel
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


def test_labels_are_left_out_of_the_fit_entirely_where_they_are_few(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    few, more = make_dataset(system, 12), make_dataset(system, 20)
    fit = fit_modes(few, {system.name: system}, 0)
    assert not np.allclose(fit.left_out(few), fit.left_over(few))
    fit = fit_modes(more, {system.name: system}, 0)
    assert np.array_equal(fit.left_out(more), fit.left_over(more))


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


def test_systems_with_a_single_label_each_are_left_to_the_network(crystal: Callable[..., System]) -> None:
    crystals = [replace(crystal("rocksalt"), name=f"host-{number}") for number in range(12)]
    systems = {one.name: one for one in crystals}
    labels = [make_dataset(one, 1, number) for number, one in enumerate(crystals)]
    dataset = Dataset(
        tuple(one.blocks[0] for one in labels),
        ("a", "b"),
        np.concatenate([one.targets for one in labels]),
        np.concatenate([one.energies for one in labels]),
        tuple(one.forces[0] for one in labels),
        np.zeros((12, 6)),
    )
    block = make_dataset(crystals[0], 20, 100).blocks[0]
    mixed, network = (
        model.load([model.fit(dataset, systems, seed) for seed in range(2)], systems).predict(block).mean
        for model in (ModesGnnModel(members=2, gnn=SMALL), GnnModel(members=2, **SMALL.model_dump()))
    )
    assert np.ptp(mixed[:, 0]) > 0.3 * np.ptp(network[:, 0])
    alone = ModesModel(members=2)
    prediction = alone.load([alone.fit(dataset, systems, seed) for seed in range(2)], systems).predict(block)
    assert np.median(prediction.std[:, 0]) > 0.8 * prediction.scale[0]


def with_other_atoms(dataset: Dataset, rows: slice) -> Dataset:
    """Return a dataset some of whose configurations have an element that the crystal has not."""
    (block,) = dataset.blocks
    species = block.species.copy()
    species[rows, -2:] = 35
    return replace(dataset, blocks=(replace(block, species=species),))


def test_decorated_crystals_are_left_to_the_network(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    systems = {system.name: system}
    model = ModesGnnModel(members=2, gnn=SMALL)
    mixed = with_other_atoms(make_dataset(system, 12), slice(0, None, 2))
    predictor = model.load([model.fit(mixed, systems, seed) for seed in range(2)], systems)
    prediction = predictor.predict(mixed.blocks[0])
    assert np.all(np.isfinite(prediction.members))
    assert np.all(prediction.std > 0)


def test_a_decorated_candidate_among_others_is_the_networks_alone(crystal: Callable[..., System]) -> None:
    system, other = crystal("rocksalt"), replace(crystal("rocksalt"), name="with bromine")
    numbers = np.where(np.arange(8) < 6, other.supercell.numbers, 35)
    other = replace(other, supercell=replace(other.supercell, numbers=numbers))  # so that bromine is known
    systems = {system.name: system, other.name: other}
    model = ModesGnnModel(members=2, gnn=SMALL)
    states = [model.fit(make_dataset(system, 12), systems, seed) for seed in range(2)]
    predictor = model.load(states, systems)
    (plain,) = make_dataset(system, 6, 1).blocks
    (mixed,) = with_other_atoms(make_dataset(system, 6, 1), slice(3, 5)).blocks
    alone, beside = predictor.predict(plain), predictor.predict(mixed)
    same = [0, 1, 2, 5]
    np.testing.assert_allclose(beside.members[:, same], alone.members[:, same], rtol=1e-5)
    np.testing.assert_allclose(beside.features[same], alone.features[same], rtol=1e-3, atol=1e-4)
    assert np.all(np.isfinite(beside.members))


def test_features_of_all_systems_are_seen_through_one_sketch(crystal: Callable[..., System]) -> None:
    """However few features the networks have."""
    known = crystal("rocksalt")
    bare = replace(known, name="bare", force_constants=None)
    systems = {known.name: known, bare.name: bare}
    first, second = make_dataset(known, 12), make_dataset(known, 4, 1)
    (moved,) = second.blocks
    model = ModesGnnModel(members=1, gnn=SMALL)
    predictor = model.load([model.fit(first, systems, 0)], systems)
    there = predictor.predict(moved).features
    apart = there - predictor.predict(replace(moved, system="bare")).features
    assert there.shape == (4, 64)
    within = np.linalg.norm(there - there.mean(axis=0), axis=1).max()
    assert np.linalg.norm(apart - apart.mean(axis=0), axis=1).max() < 2 * within  # the network's part is shared


def test_what_is_left_of_a_system_without_modes_has_the_size_of_the_others(crystal: Callable[..., System]) -> None:
    """Two crystals of one composition, energies far from zero, modes of one of them."""
    known = crystal("rocksalt")
    dataset = make_dataset(known, 12)
    (block,) = dataset.blocks
    both = Dataset(
        (replace(block, system="bare"), block),
        ("a", "b"),
        np.concatenate([dataset.targets, dataset.targets]) - 1e3,
        np.concatenate([dataset.energies, dataset.energies]),
        (*dataset.forces, *dataset.forces),
        np.zeros((24, 6)),
    )
    left_over = fit_modes(both, {known.name: known}, 0).left_over(both)
    assert np.all(np.abs(left_over).max(axis=0) < 5 * dataset.targets.std(axis=0))


def test_recalibration_changes_neither_means_nor_what_selectors_compare(
    crystal: Callable[..., System], monkeypatch: pytest.MonkeyPatch
) -> None:
    from activeph.models import experts, network

    system = crystal("rocksalt")
    systems, train, block = {system.name: system}, make_dataset(system, 24), make_dataset(system, 30, 1).blocks[0]
    models = (ModesGnnModel(members=3, gnn=SMALL), GnnModel(members=3, steps=60, hidden=8, cutoff=4.2))
    states = [[model.fit(train, systems, seed) for seed in range(3)] for model in models]
    found = [model.load(own, systems).predict(block) for model, own in zip(models, states, strict=True)]
    other = Recalibration(np.full(2, 0.1), np.full(2, 3.0))
    monkeypatch.setattr(network, "recalibrate_ensemble", lambda records: other)
    monkeypatch.setattr(experts, "recalibrate_ensemble", lambda records: other)
    monkeypatch.setattr(experts, "recalibrate_mean", lambda *of: other)
    for model, own, before in zip(models, states, found, strict=True):
        after = model.load(own, systems).predict(block)
        assert np.array_equal(after.features, before.features)
        np.testing.assert_allclose(after.mean, before.mean, rtol=0, atol=1e-9 * np.abs(before.mean).max())
        assert not np.allclose(after.std, before.std)
