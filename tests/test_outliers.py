"""No sound label is ever doubted, however extreme or badly predicted; absurd ones are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from activeph.dataset import make_dataset
from activeph.label.frames import read_frames
from activeph.models.modes import ModesModel
from activeph.outliers import contradictions, facts_of, surprises
from activeph.records import Configuration, Label, System
from activeph.systems import load_system

DATA = Path(__file__).parent / "data" / "kbr"


@pytest.fixture(scope="module")
def system() -> System:
    return load_system("KBr", DATA / "KBr.vasp", ((2, 0, 0), (0, 2, 0), (0, 0, 2)), DATA / "phonopy_params.yaml")


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    """Real labels up to 600 K, the random ones with atoms pushed into each other: energies 30 eV above the crystal."""
    return [*read_frames(DATA / "phonon.extxyz"), *read_frames(DATA / "random.extxyz")]


def test_no_real_label_is_doubted_whatever_few_labels_it_is_compared_with(system: System, labels: list[Label]) -> None:
    facts = facts_of(labels, system)
    rng = np.random.default_rng(0)
    for _ in range(200):
        chosen = rng.choice(len(labels), 8, replace=False)
        assert contradictions(facts, facts.part(chosen)) == [None] * len(labels)


@pytest.mark.parametrize("n_trained", [8, 30])
def test_no_real_label_surprises_even_a_badly_trained_ensemble(
    system: System, labels: list[Label], n_trained: int
) -> None:
    model, systems, names = ModesModel(members=3), {"KBr": system}, ("energy_per_atom",)
    facts, n_atoms = facts_of(labels, system), len(labels[0].configuration.numbers)
    everything = make_dataset(labels, ["KBr"] * len(labels), [300.0] * len(labels), names)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(80)  # trained and tested on phonons, surprised by all
        some = [labels[row] for row in order[:n_trained]]
        dataset = make_dataset(some, ["KBr"] * n_trained, [300.0] * n_trained, names)
        found = model.load([model.fit(dataset, systems, k, None) for k in range(3)], systems)
        prediction = found.predict(everything.blocks[0])
        energies, spread = prediction.mean[:, 0] * n_atoms, prediction.std[:, 0] * n_atoms
        test = order[-20:]
        assert surprises(facts, energies, spread, facts.part(test), energies[test]) == [None] * len(labels)


def spoiled(label: Label, way: str) -> Label:
    forces, positions = label.forces, label.configuration.positions
    rng = np.random.default_rng(1)
    return {
        "energy of another unit": replace(label, energy=label.energy / 27.2114),
        "energy of another calculation": replace(label, energy=label.energy + 40.0),
        "forces of another unit": replace(label, forces=forces * 51.4),
        "forces of an earlier step": replace(label, forces=forces / 100.0),
        "garbage": replace(label, forces=rng.normal(scale=50.0, size=positions.shape)),
    }[way]


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("energy of another unit", "energy is .* away from the work of its forces"),
        ("energy of another calculation", "energy is .* away from the work of its forces"),
        ("forces of another unit", "forces would do .* of work"),
        ("forces of an earlier step", "forces are .* is usual"),
        ("garbage", "forces would do .* of work"),
    ],
)
def test_absurd_labels_are_doubted_with_a_reason(system: System, labels: list[Label], way: str, sentence: str) -> None:
    bad = facts_of([spoiled(label, way) for label in labels[:10]], system)
    reasons = contradictions(bad, facts_of(labels[10:40], system))
    found = [reason is not None and re.search(sentence, reason) is not None for reason in reasons]
    assert sum(found) >= 8  # calm configurations can be wrong and not absurd


def test_another_electronic_state_surprises_an_ensemble_that_knows_the_neighbourhood(
    system: System, labels: list[Label]
) -> None:
    facts = facts_of(labels[:80], system)
    rng = np.random.default_rng(0)
    predicted = facts.energy + rng.normal(scale=0.01, size=80)
    calm = np.argsort(facts.furthest)[:5]
    shifted = replace(facts, energy=facts.energy + 3.0).part(calm)
    spread = np.full(5, 0.01)
    assert all(surprises(shifted, predicted[calm], spread, facts, predicted))
    assert not any(surprises(facts.part(calm), predicted[calm], spread, facts, predicted))
    wild = np.argsort(facts.furthest)[-5:]  # what the campaign is there to find is never doubted by the ensemble
    tails = replace(facts, energy=facts.energy + 3.0).part(wild)
    assert not any(surprises(tails, predicted[wild], spread, facts, predicted))


def test_energies_alone_and_few_labels_are_enough_to_go_on(system: System, labels: list[Label]) -> None:
    blind = [replace(label, forces=np.full_like(label.forces, np.nan)) for label in labels[:20]]
    facts = facts_of(blind, system)
    assert contradictions(facts, facts) == [None] * 20
    assert surprises(facts, facts.energy, np.zeros(20), facts, facts.energy) == [None] * 20
    few = facts_of(labels[:3], system)
    assert contradictions(few, few) == [None] * 3


def test_a_strained_crystal_has_done_work_too(system: System, labels: list[Label]) -> None:
    # a harmonic solid: energy is half of stress times strain, and forces vanish
    site, modulus = system.supercell, 0.2  # eV/Å³
    strained = []
    for strain in np.linspace(-0.03, 0.03, 12):
        cell = site.cell * (1 + strain)
        configuration = Configuration(site.numbers, site.positions * (1 + strain), cell)
        volume = abs(np.linalg.det(cell))
        stress = np.array([1.0, 1.0, 1.0, 0, 0, 0]) * modulus * strain
        energy = 1.5 * modulus * strain**2 * volume
        none = np.zeros_like(site.positions)
        strained.append(replace(labels[0], configuration=configuration, energy=energy, forces=none, stress=stress))
    facts = facts_of(strained, system)
    np.testing.assert_allclose(facts.energy, facts.work, atol=1e-12)
    assert contradictions(facts, facts) == [None] * 12
