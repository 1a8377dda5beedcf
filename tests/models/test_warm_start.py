"""A member that starts from its earlier state ends no worse than one that starts afresh."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from activeph.models.calibration import take
from activeph.models.gnn import GnnModel
from activeph.models.scaling import held_out
from activeph.records import Block, Dataset, System

MODEL = GnnModel(members=1, steps=80, hidden=12, cutoff=4.2)


def make_dataset(system: System, n: int, seed: int = 0) -> Dataset:
    cell = system.supercell
    rng = np.random.default_rng(seed)
    positions = cell.positions + 0.12 * rng.normal(size=(n, len(cell.numbers), 3))
    block = Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )
    apart = positions[:, :4, None] - positions[:, None, 4:]
    apart -= np.round(apart @ np.linalg.inv(cell.cell)) @ cell.cell
    targets = np.exp(-np.linalg.norm(apart, axis=3) / 0.4).sum(axis=(1, 2))[:, None]
    return Dataset((block,), ("gap",), targets, targets[:, 0], (np.zeros_like(positions),), np.zeros((n, 6)))


def relative_error(state: bytes, truth: Dataset, system: System) -> float:
    prediction = MODEL.load([state], {system.name: system}).predict(truth.blocks[0])
    return float(np.sqrt(np.mean((prediction.mean - truth.targets) ** 2)) / truth.targets.std())


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


def test_warm_start_is_no_worse_than_cold_on_average(system: System) -> None:
    systems = {system.name: system}
    truth = make_dataset(system, 150, 99)
    warm, cold = [], []
    for seed in range(3):
        dataset = make_dataset(system, 60, seed)
        earlier = MODEL.fit(take(dataset, range(30)), systems, seed)
        warm.append(relative_error(MODEL.fit(dataset, systems, seed, earlier), truth, system))
        cold.append(relative_error(MODEL.fit(dataset, systems, seed), truth, system))
    assert np.mean(cold) < 0.8  # there is something to learn, and it is learned
    assert np.mean(warm) < 1.05 * np.mean(cold)


def test_useless_earlier_state_is_dropped(system: System) -> None:
    systems = {system.name: system}
    dataset = make_dataset(system, 40)
    wrong = replace(dataset, targets=-dataset.targets)
    earlier = MODEL.fit(wrong, systems, 0)
    block = dataset.blocks[0]
    warm, cold = (MODEL.load([MODEL.fit(dataset, systems, 0, start)], systems) for start in (earlier, None))
    assert np.array_equal(warm.predict(block).members, cold.predict(block).members)


def test_labels_of_a_new_element_start_the_network_afresh(system: System) -> None:
    systems = {system.name: system}
    earlier = MODEL.fit(make_dataset(system, 20), systems, 0)
    dataset = make_dataset(system, 30)
    (block,) = dataset.blocks
    species = block.species.copy()
    species[20:, 6] = 35
    dataset = replace(dataset, blocks=(replace(block, species=species),))
    warm, cold = (MODEL.load([MODEL.fit(dataset, systems, 0, start)], systems) for start in (earlier, None))
    assert np.array_equal(warm.predict(block).members, cold.predict(block).members)


def test_useful_earlier_state_is_where_training_starts(system: System) -> None:
    systems = {system.name: system}
    earlier = MODEL.fit(make_dataset(system, 60), systems, 0)
    warm, cold = (MODEL.fit(make_dataset(system, 80), systems, 0, start) for start in (earlier, None))
    losses = [torch.load(io.BytesIO(state), weights_only=True)["curve"][0][1] for state in (warm, cold)]
    assert losses[0] < 0.7 * losses[1]


def test_held_out_labels_stay_held_out_while_the_dataset_grows(system: System) -> None:
    dataset = make_dataset(system, 200)
    small = held_out(take(dataset, range(100)), 7, 0.2)
    large = held_out(dataset, 7, 0.2)
    assert np.array_equal(small, large[:100])
    assert 0.1 < large.mean() < 0.3
    assert not np.array_equal(large, held_out(dataset, 8, 0.2))
