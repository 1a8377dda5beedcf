"""The stress tensor turns with the crystal, follows from few labels, and stands beside any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.graphs.pairs import search_pairs
from activeph.kinds import load_kind
from activeph.models.modes import ModesModel
from activeph.models.stress import WithStress, fit_tensor, with_stress
from activeph.models.tensor_features import FROM_COMPONENTS, TO_COMPONENTS, TensorFeatures
from activeph.models.tensor_regression import fit_linear
from activeph.records import Block, Dataset, FloatArray, System
from activeph.targets import STRESS_COMPONENTS, TARGETS, spell_out

REACH = 4.5  # Å
NAMES = ("band_gap", *STRESS_COMPONENTS)


def make_block(system: System, n: int, seed: int = 0, amplitude: float = 0.1) -> Block:
    cell = system.supercell
    rng = np.random.default_rng(seed)
    positions = cell.positions + amplitude * rng.normal(size=(n, len(cell.numbers), 3))
    return Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )


def pair_stress(block: Block) -> FloatArray:
    """The virial of a pair potential in eV/Å³ [B, 6]."""
    result = []
    for row in range(len(block)):
        pairs = search_pairs(block.configuration(row), REACH)
        cell = block.cells[row]
        apart = block.positions[row][pairs.j] - block.positions[row][pairs.i] + pairs.shifts @ cell
        lengths = np.linalg.norm(apart, axis=1)
        slopes = -((1 - lengths / REACH) ** 3)
        result.append(np.einsum("p,px,py->xy", slopes / lengths, apart, apart) / abs(np.linalg.det(cell)))
    return np.array(result)[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def make_dataset(system: System, n: int, seed: int = 0, names: tuple[str, ...] = NAMES) -> Dataset:
    block = make_block(system, n, seed)
    squares = np.sum((block.positions - system.supercell.positions) ** 2, axis=(1, 2))
    stresses = pair_stress(block)
    columns = {
        "band_gap": 5.0 - 2.0 * squares,
        "hydrostatic_stress": stresses[:, :3].mean(axis=1),
        **{name: stresses[:, column] for column, name in enumerate(STRESS_COMPONENTS)},
    }
    targets = np.stack([columns[name] for name in names], axis=1)
    forces = (np.zeros_like(block.positions),)
    return Dataset((block,), names, targets, np.zeros(n), forces, stresses)


def rotation(seed: int = 3) -> FloatArray:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return np.asarray(turn * np.sign(np.linalg.det(turn)))


def turned(stresses: FloatArray, turn: FloatArray) -> FloatArray:
    tensors = stresses[..., [[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    tensors = turn @ tensors @ turn.T
    return np.asarray(tensors[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


@pytest.fixture(scope="module")
def trained(system: System) -> tuple[WithStress, list[bytes]]:
    model = with_stress(ModesModel(members=3), NAMES)
    assert isinstance(model, WithStress)
    dataset = make_dataset(system, 20)
    return model, [model.fit(dataset, {system.name: system}, seed) for seed in range(3)]


def test_the_word_stress_stands_for_six_targets() -> None:
    assert spell_out(["band_gap", "stress"]) == NAMES
    assert all(TARGETS[name].printed_unit == "GPa" for name in STRESS_COMPONENTS)


def test_bases_are_inverse_and_keep_the_norm() -> None:
    stress = np.random.default_rng(0).normal(size=6)
    tensor = stress @ FROM_COMPONENTS.T
    np.testing.assert_allclose(tensor @ TO_COMPONENTS.T, stress, atol=1e-14)
    assert np.sum(tensor**2) == pytest.approx(np.sum(stress[:3] ** 2) + 2 * np.sum(stress[3:] ** 2))


def test_features_turn_with_the_crystal(system: System) -> None:
    features = TensorFeatures({system.name: system}, np.unique(system.supercell.numbers))
    block, turn = make_block(system, 4), rotation()
    there = replace(block, positions=block.positions @ turn.T, cells=block.cells @ turn.T)
    before = np.einsum("ck,bkf->bfc", TO_COMPONENTS, features.evaluate(block))
    after = np.einsum("ck,bkf->bfc", TO_COMPONENTS, features.evaluate(there))
    np.testing.assert_allclose(after, turned(before, turn), atol=2e-4 * np.abs(before).max())
    assert features.groups.shape == (before.shape[1],)


def test_predictions_turn_with_the_crystal(trained: tuple[WithStress, list[bytes]], system: System) -> None:
    model, states = trained
    predictor = model.load(states, {system.name: system})
    block, turn = make_block(system, 5, 7), rotation()
    there = replace(block, positions=block.positions @ turn.T, cells=block.cells @ turn.T)
    before, after = predictor.predict(block), predictor.predict(there)
    expected = turned(before.mean[:, 1:], turn)
    np.testing.assert_allclose(after.mean[:, 1:], expected, atol=1e-3 * np.ptp(before.mean[:, 1:]))
    size = np.sum(before.std[:, 1:4] ** 2, axis=1) + 2 * np.sum(before.std[:, 4:] ** 2, axis=1)
    turned_size = np.sum(after.std[:, 1:4] ** 2, axis=1) + 2 * np.sum(after.std[:, 4:] ** 2, axis=1)
    np.testing.assert_allclose(size, turned_size, rtol=1e-2)
    np.testing.assert_allclose(after.uncertainty, before.uncertainty, rtol=1e-2)


@pytest.mark.parametrize("kind", ["modes", "gnn", "modes-gnn"])
def test_pair_virials_are_learned_from_few_labels(kind: str, system: System) -> None:
    small = {"steps": 12, "hidden": 8, "cutoff": 4.2}
    classes = {name: load_kind("models", name) for name in ("modes", "gnn", "modes-gnn")}
    settings = {
        "modes": {},
        "gnn": small,
        "modes-gnn": {"gnn": classes["modes-gnn"].model_fields["gnn"].annotation(**small)},
    }
    model = with_stress(classes[kind](members=2, **settings[kind]), NAMES)
    systems = {system.name: system}
    train, test = make_dataset(system, 30), make_dataset(system, 60, 1)
    prediction = model.load([model.fit(train, systems, seed) for seed in range(2)], systems).predict(test.blocks[0])
    errors, truth = (prediction.mean - test.targets)[:, 1:], test.targets[:, 1:]
    assert np.all(1 - np.mean(errors**2, axis=0) / truth.var(axis=0) > 0.9)
    inside = np.abs(errors) < prediction.std[:, 1:]
    assert 0.5 < inside.mean() < 0.85


def test_order_of_targets_and_hydrostatic_stress(system: System) -> None:
    names = ("stress_xy", "hydrostatic_stress", "band_gap", "stress_zz", "stress_xx", "stress_yy")
    systems = {system.name: system}
    mixed, plain = (with_stress(ModesModel(members=2), wanted) for wanted in (names, NAMES))
    predictions = {}
    for wanted, model in ((names, mixed), (NAMES, plain)):
        states = [model.fit(make_dataset(system, 15, names=wanted), systems, seed) for seed in range(2)]
        predictions[wanted] = model.load(states, systems).predict(make_block(system, 5, 2))
    found, expected = predictions[names].mean, predictions[NAMES].mean
    np.testing.assert_allclose(found[:, [2, 4, 5, 3, 0]], expected[:, [0, 1, 2, 3, 6]])
    np.testing.assert_allclose(found[:, 1], expected[:, 1:4].mean(axis=1))


def test_error_bar_of_hydrostatic_stress_is_that_of_the_trace(system: System) -> None:
    """Of the covariance of the components, that is, and so the same whatever the members drew."""
    names, systems = (*NAMES, "hydrostatic_stress"), {system.name: system}
    model = with_stress(ModesModel(members=2), names)
    dataset, block = make_dataset(system, 15, names=names), make_block(system, 6, 3, 0.2)
    states = [model.fit(dataset, systems, seed) for seed in range(4)]
    bars = [model.load(own, systems).predict(block).std[:, 7] for own in (states[:2], states[2:], states)]
    np.testing.assert_allclose(bars[:2], [bars[2]] * 2)
    fit = fit_tensor(dataset, systems, 0)
    features = TensorFeatures(systems, fit.elements, fit.centre).evaluate(block)
    own = fit.recalibration.factors[1] ** 2 * fit.posterior.covariance(features)[:, 5, 5]
    np.testing.assert_allclose(bars[2], fit.unit * np.sqrt((own + fit.recalibration.floors[1] ** 2) / 3))


def test_six_components_count_as_one_property(trained: tuple[WithStress, list[bytes]], system: System) -> None:
    model, states = trained
    prediction = model.load(states, {system.name: system}).predict(make_block(system, 50, 5))
    truth = make_dataset(system, 50, 5).targets
    shares = np.mean((truth - truth.mean(axis=0)) ** 2, axis=0) / prediction.scale**2
    assert shares[1:].sum() == pytest.approx(1.0, abs=0.5)  # like a scalar, whose own share is near one
    assert shares[0] == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize("kept", [0, 50, -300])
def test_damaged_states_are_refused(kept: int, trained: tuple[WithStress, list[bytes]], system: System) -> None:
    model, states = trained
    with pytest.raises(InputError, match="a member's state must be one that this version of activeph can read but got"):
        model.load([states[0][:kept]], {system.name: system})


def test_stress_alone_leaves_the_model_something_to_compare(system: System) -> None:
    systems = {system.name: system}
    model = with_stress(ModesModel(members=2), STRESS_COMPONENTS)
    dataset = make_dataset(system, 12, names=STRESS_COMPONENTS)
    prediction = model.load([model.fit(dataset, systems, seed) for seed in range(2)], systems).predict(
        dataset.blocks[0]
    )
    assert prediction.members.shape == (2, 12, 6)
    assert np.ptp(prediction.features) > 0


def test_models_without_components_are_left_alone() -> None:
    model = ModesModel()
    assert with_stress(model, ("band_gap", "hydrostatic_stress")) is model


def test_unknown_elements_are_refused(trained: tuple[WithStress, list[bytes]], system: System) -> None:
    features = TensorFeatures({}, np.array([8, 12]))
    block = make_block(system, 2)
    with pytest.raises(InputError, match="elements that the stress was learned for"):
        features.evaluate(replace(block, species=np.full_like(block.species, 79)))


def test_left_out_errors_are_those_of_a_fit_without_the_structure() -> None:
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(9, 6, 5)), rng.normal(size=5)
    labels = features @ weights + 0.1 * rng.normal(size=(9, 6))
    groups = np.array([0, 0, 1, 2, 3])
    posterior, left_out = fit_linear(features, labels, groups, 0)
    columns = posterior.columns
    errors = left_out.errors
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(0.13, abs=0.05)
    assert np.all(np.linalg.eigvalsh(left_out.covariances) > -1e-9)
    assert np.abs(posterior.mean(features) - features @ weights).max() < 0.3
    assert columns.shape == (5,)


def test_one_odd_structure_hardly_matters() -> None:
    rng = np.random.default_rng(1)
    features, weights = rng.normal(size=(30, 6, 4)), rng.normal(size=4)
    labels = features @ weights + 0.02 * rng.normal(size=(30, 6))
    labels[4] += 20.0
    posterior, _ = fit_linear(features, labels / 3, np.array([0, 1, 2, 3]), 0)
    assert np.abs(3 * posterior.mean(features[:10]) - features[:10] @ weights)[[0, 1, 2, 3, 5]].max() < 0.3


def test_features_that_only_rounding_moves_say_nothing() -> None:
    """Two of its kind were in no label, only an atom and its own images: constant, until another crystal comes."""
    rng = np.random.default_rng(2)
    features, weights = rng.normal(size=(20, 6, 4)), rng.normal(size=4)
    labels = features @ weights + 0.1 * rng.normal(size=(20, 6))
    noise = 1e-8 * rng.normal(size=(20, 6, 1))
    groups = np.array([0, 1, 2, 3, 0])
    known = np.concatenate([features, noise], axis=2)
    posterior, _ = fit_linear(known, labels, groups, 0)
    other = np.concatenate([features, np.ones((20, 6, 1))], axis=2)
    assert np.abs(posterior.mean(other) - features @ weights).max() < 1.0
    sizes = [np.trace(posterior.covariance(one), axis1=1, axis2=2).min() for one in (other, known)]
    assert sizes[0] > 10 * sizes[1]  # and that nothing is known of them is known
