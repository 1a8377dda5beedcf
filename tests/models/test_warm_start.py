"""A member that starts from its earlier state ends no worse than one that starts afresh."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from activeph.dataset import make_dataset as dataset_of
from activeph.label.frames import read_frames
from activeph.models.base import Model
from activeph.models.calibration import take
from activeph.models.gnn import GnnModel, GnnSettings
from activeph.models.gnn_single import HeadsGnnModel, PosteriorGnnModel
from activeph.models.modes_gnn import ModesGnnModel
from activeph.models.origin import OriginModel
from activeph.models.split import split_labels
from activeph.records import Block, Dataset, System
from activeph.systems.load import load_system

KBR = Path(__file__).parents[1] / "data" / "kbr"
SMALL = {"steps": 80, "hidden": 12, "cutoff": 4.2}
MODEL = GnnModel(members=1, **SMALL)
MODELS: dict[str, Model] = {
    "gnn": MODEL,
    "gnn-heads": HeadsGnnModel(heads=4, **SMALL),
    "gnn-posterior": PosteriorGnnModel(**SMALL),
    "modes-gnn": ModesGnnModel(members=1, gnn=GnnSettings(**SMALL)),
    "origin": OriginModel(members=1, epochs=60, hidden=12, cutoff=4.2),
}
"""All networks but MACE, which has tests of its own."""
_PLAIN = {"steps": 60, "hidden": 12, "force_weight": 0.0}
QUICK: dict[str, Model] = {
    "gnn": GnnModel(members=1, **_PLAIN),
    "gnn-heads": HeadsGnnModel(heads=4, **_PLAIN),
    "modes-gnn": ModesGnnModel(members=1, gnn=GnnSettings(**_PLAIN)),
}


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


def relative_error(state: bytes, truth: Dataset, system: System, model: Model = MODEL) -> float:
    prediction = model.load([state], {system.name: system}).predict(truth.blocks[0])
    return float(np.sqrt(np.mean(((prediction.mean - truth.targets) / truth.targets.std(axis=0)) ** 2)))


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


@pytest.mark.parametrize("name", MODELS)
def test_useless_earlier_state_leaves_no_trace(name: str, system: System) -> None:
    """Trained on the opposite of what is true: the member is the one of a cold start, bit by bit."""
    systems, model = {system.name: system}, MODELS[name]
    dataset = make_dataset(system, 40)
    wrong = replace(dataset, targets=-dataset.targets)
    earlier = model.fit(take(wrong, range(30)), systems, 0)
    assert model.fit(dataset, systems, 0, earlier) == model.fit(dataset, systems, 0)


def test_a_state_that_has_seen_what_it_is_judged_by_is_not_believed(system: System) -> None:
    """It knows all held-out labels by heart, and nothing else."""
    systems, model = {system.name: system}, MODEL.model_copy(update={"held_out": 0.0, "steps": 300})
    dataset = make_dataset(system, 30)
    known = take(dataset, np.flatnonzero(split_labels(dataset, 0, 0.15).held_out))
    earlier = model.fit(known, systems, 0)
    assert MODEL.fit(dataset, systems, 0, earlier) == MODEL.fit(dataset, systems, 0)


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
    small = split_labels(take(dataset, range(100)), 7, 0.2).held_out
    large = split_labels(dataset, 7, 0.2).held_out
    assert np.array_equal(small, large[:100])
    assert 0.1 < large.mean() < 0.3
    assert not np.array_equal(large, split_labels(dataset, 8, 0.2).held_out)


def labelled_kbr() -> tuple[System, Dataset]:
    """Real labels (GFN2-xTB): gap, valence band edge, energy and stress of 80 thermal draws."""
    system = load_system("KBr", KBR / "KBr.vasp", (2, 2, 2), KBR / "phonopy_params.yaml")
    labels = read_frames(KBR / "phonon.extxyz")
    names = ("band_gap", "valence_band_maximum", "energy_per_atom", "hydrostatic_stress")
    return system, dataset_of(labels, [system.name] * len(labels), [300.0] * len(labels), names)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_no_earlier_state_makes_a_member_worse_than_a_cold_start(name: str) -> None:
    """Round by round on real labels, from the round before, and from a state that learned other structures' labels."""
    system, whole = labelled_kbr()
    systems, model = {system.name: system}, QUICK[name]
    differences = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(whole))
        truth, earlier, wrong = take(whole, order[:40]), None, None
        for size in (10, 20, 40):
            dataset = take(whole, order[40 : 40 + size])
            cold = model.fit(dataset, systems, seed)
            warm, misled = (model.fit(dataset, systems, seed, start) if start else cold for start in (earlier, wrong))
            errors = [relative_error(state, truth, system, model) for state in (cold, warm, misled)]
            differences += [np.array(errors[1:]) / errors[0] - 1] if earlier else []
            shifted = replace(dataset, targets=np.roll(dataset.targets, 1, axis=0))
            earlier, wrong = warm, model.fit(shifted, systems, seed)
    error = np.std(differences, axis=0, ddof=1) / np.sqrt(len(differences))
    assert np.all(np.mean(differences, axis=0) <= 2 * error)
