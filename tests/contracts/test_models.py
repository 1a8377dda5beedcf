"""What every model promises, whatever its method."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.kinds import BUILT_IN, load_kind
from activeph.models.base import Model
from activeph.records import Block, Dataset, System

SMALL = {"steps": 12, "hidden": 8, "cutoff": 4.2}
SETTINGS: dict[str, dict[str, object]] = {
    "gnn": SMALL,
    "gnn-heads": SMALL,
    "gnn-posterior": SMALL,
    "mace": {"steps": 12, "channels": 4, "cutoff": 4.2, "vectors": False, "radial": 4, "angular": 1},
    "modes": {},
    "modes-gnn": {"gnn": load_kind("models", "modes-gnn").model_fields["gnn"].annotation(**SMALL)},
    "origin": {"epochs": 60, "hidden": 8, "cutoff": 4.2},
}
SINGLE = ("gnn-heads", "gnn-posterior")  # one fit that predicts several members
SLOW = ("mace",)  # imports and builds for seconds
KINDS = [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in SETTINGS]
TARGETS = ("band_gap", "energy_per_atom")
POTENTIALS = ("mace",)  # kinds that learn what follows from energies, forces and stresses, and nothing else


def make_model(kind: str, members: int = 3) -> Model:
    settings = SETTINGS[kind] if kind in SINGLE else {"members": members, **SETTINGS[kind]}
    return load_kind("models", kind)(**settings)


def make_block(system: System, n: int, seed: int = 0) -> Block:
    """Small displacements; positions in the frame of the supercell."""
    cell = system.supercell
    rng = np.random.default_rng(seed)
    positions = cell.positions + 0.1 * rng.normal(size=(n, len(cell.numbers), 3))
    return Block(
        system.name,
        np.tile(cell.numbers, (n, 1)),
        positions,
        np.tile(cell.cell, (n, 1, 1)),
        np.full(n, 300.0),
    )


def make_dataset(system: System, n: int, seed: int = 0, kind: str = "gnn") -> Dataset:
    """Targets are smooth functions of the displacements on scales far apart."""
    block = make_block(system, n, seed)
    moved = block.positions - system.supercell.positions
    squares = np.sum(moved**2, axis=(1, 2))
    n_atoms = block.species.shape[1]
    if kind in POTENTIALS:
        stresses = np.zeros((n, 6))
        stresses[:, :3] = -0.01 - 0.05 * squares[:, None]
        targets = np.stack([-1e3 + 2.0 * squares / n_atoms, stresses[:, 0]], axis=1)
        names = ("energy_per_atom", "hydrostatic_stress")
        return Dataset((block,), names, targets, targets[:, 0] * n_atoms, (-4.0 * moved,), stresses)
    targets = np.stack([5.0 - 2.0 * squares, -1e3 + 1e-3 * squares], axis=1)
    return Dataset((block,), TARGETS, targets, targets[:, 1] * n_atoms, (np.zeros((n, n_atoms, 3)),), np.zeros((n, 6)))


def constant_dataset(system: System, n: int, kind: str) -> Dataset:
    """Labels that all say the same."""
    dataset = make_dataset(system, n, kind=kind)
    if kind not in POTENTIALS:
        return replace(dataset, targets=np.tile([1.5, -3.0], (n, 1)))
    same = np.tile(dataset.targets[:1], (n, 1))
    still = (np.zeros_like(dataset.forces[0]),)
    stresses = np.tile(dataset.stresses[:1], (n, 1))
    return replace(dataset, targets=same, energies=np.full(n, dataset.energies[0]), forces=still, stresses=stresses)


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


def test_every_kind_is_tested() -> None:
    assert set(SETTINGS) == set(BUILT_IN["models"])


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, system: System) -> tuple[str, Model, list[bytes], dict[str, System]]:
    model = make_model(request.param)
    systems = {system.name: system}
    dataset = make_dataset(system, 14, kind=request.param)
    return request.param, model, [model.fit(dataset, systems, seed) for seed in range(3)], systems


Trained = tuple[str, Model, list[bytes], dict[str, System]]


def test_shapes_and_finite_values(trained: Trained, system: System) -> None:
    kind, model, states, systems = trained
    prediction = model.load(states, systems).predict(make_block(system, 40, 1))
    assert model.members == (1 if kind in SINGLE else 3)
    assert prediction.members.shape == (3 * getattr(model, "opinions", 1), 40, 2)
    assert prediction.features.ndim == 2
    assert prediction.features.shape[0] == 40
    assert prediction.features.shape[1] <= 64
    assert prediction.scale.shape == (2,)
    assert np.all(prediction.scale > 0)
    for array in (prediction.members, prediction.features, prediction.scale, prediction.uncertainty):
        assert np.all(np.isfinite(array))


def test_values_are_in_the_targets_units(trained: Trained, system: System) -> None:
    kind, model, states, systems = trained
    truth = make_dataset(system, 20, 2, kind)
    error = model.load(states, systems).predict(truth.blocks[0]).mean - truth.targets
    assert np.all(np.abs(error).mean(axis=0) < 3 * truth.targets.std(axis=0))


def test_same_seed_same_member(trained: Trained, system: System) -> None:
    kind, model, states, systems = trained
    again = make_model(kind).fit(make_dataset(system, 14, kind=kind), systems, 1)
    block = make_block(system, 5, 3)
    first = model.load([states[1]], systems).predict(block)
    second = model.load([again], systems).predict(block)
    assert np.array_equal(first.members, second.members)
    assert np.array_equal(first.features, second.features)


def test_other_seed_other_member(trained: Trained, system: System) -> None:
    _, model, states, systems = trained
    assert np.all(model.load(states, systems).predict(make_block(system, 5, 3)).std > 0)


def test_identical_members_have_no_spread(trained: Trained, system: System) -> None:
    kind, model, states, systems = trained
    if kind in SINGLE:
        pytest.skip("a single network predicts several members")
    prediction = model.load([states[0]] * 3, systems).predict(make_block(system, 5, 3))
    assert np.all(prediction.std <= 1e-9 * np.abs(prediction.mean))


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_leaves_arguments_and_global_random_state_alone(kind: str, system: System) -> None:
    import torch

    dataset = make_dataset(system, 8, kind=kind)
    before = pickle.dumps(dataset)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state = np.random.get_state()[1].copy()
    make_model(kind).fit(dataset, {system.name: system}, 0)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(state, np.random.get_state()[1])
    assert pickle.dumps(dataset) == before


def test_warm_start(trained: Trained, system: System) -> None:
    kind, model, states, systems = trained
    dataset = make_dataset(system, 18, kind=kind)
    first = model.fit(dataset, systems, 0, states[0])
    second = make_model(kind).fit(dataset, systems, 0, states[0])
    block = make_block(system, 5, 3)
    predictions = [model.load([state], systems).predict(block) for state in (first, second)]
    assert np.array_equal(predictions[0].members, predictions[1].members)


def test_picklable(trained: Trained) -> None:
    _, model, _, _ = trained
    assert pickle.loads(pickle.dumps(model)) == model


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_very_few_labels(kind: str, size: int, system: System) -> None:
    systems = {system.name: system}
    model = make_model(kind)
    states = [model.fit(make_dataset(system, size, kind=kind), systems, seed) for seed in range(2)]
    assert np.all(np.isfinite(model.load(states, systems).predict(make_block(system, 4, 1)).members))


@pytest.mark.parametrize("kind", KINDS)
def test_constant_target(kind: str, system: System) -> None:
    systems = {system.name: system}
    constant = constant_dataset(system, 10, kind)
    model = make_model(kind)
    prediction = model.load([model.fit(constant, systems, 0)], systems).predict(make_block(system, 4, 1))
    np.testing.assert_allclose(prediction.mean, constant.targets[:4], atol=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_values_do_not_depend_on_the_cut_into_blocks(kind: str, system: System) -> None:
    systems = {system.name: system}
    model = make_model(kind)
    predictor = model.load([model.fit(make_dataset(system, 10, kind=kind), systems, 0)], systems)
    whole, part = make_block(system, 40, 1), make_block(system, 40, 1)
    alone = Block(part.system, part.species[37:], part.positions[37:], part.cells[37:], part.temperatures[37:])
    expected, got = predictor.predict(whole), predictor.predict(alone)
    np.testing.assert_allclose((got.members - expected.members[:, 37:]) / np.ptp(expected.mean, axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(got.features, expected.features[37:], atol=1e-4 * np.abs(expected.features).max())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.values[0] != "modes"])
def test_an_element_that_samplers_bring_is_known_before_a_label_has_it(kind: str, system: System) -> None:
    systems = {system.name: replace(system, guests=(35,))}
    model = make_model(kind)
    dataset = make_dataset(system, 10, kind=kind)
    predictor = model.load([model.fit(dataset, systems, seed) for seed in range(2)], systems)
    block = make_block(system, 4, 1)
    species = block.species.copy()
    species[::2, -1] = 35
    prediction = predictor.predict(replace(block, species=species))
    assert np.all(np.isfinite(prediction.members))
    assert np.all(np.isfinite(prediction.features))


def rotated(block: Block) -> Block:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    return replace(block, positions=block.positions @ turn.T, cells=block.cells @ turn.T)


def translated(block: Block) -> Block:
    return replace(block, positions=block.positions + np.array([0.3, -2.0, 7.7]))


def permuted(block: Block) -> Block:
    order = np.random.default_rng(0).permutation(block.species.shape[1])
    return replace(block, positions=block.positions[:, order], species=block.species[:, order])


def in_another_cell(block: Block) -> Block:
    change = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    return replace(block, cells=change @ block.cells)


def with_lattice_jumps(block: Block) -> Block:
    jumps = np.random.default_rng(1).integers(-1, 2, size=block.positions.shape)
    return replace(block, positions=block.positions + jumps @ block.cells)


@pytest.mark.parametrize("change", [rotated, translated, permuted, in_another_cell, with_lattice_jumps])
def test_invariance(trained: Trained, system: System, change: Callable[[Block], Block]) -> None:
    _, model, states, systems = trained
    predictor = model.load(states, systems)
    block = make_block(system, 6, 4)
    expected, got = predictor.predict(block), predictor.predict(change(block))
    np.testing.assert_allclose((got.members - expected.members) / np.ptp(expected.mean, axis=0), 0, atol=2e-3)


def test_no_member_is_refused(trained: Trained) -> None:
    _, model, _, systems = trained
    with pytest.raises(InputError, match="at least one member"):
        model.load([], systems)


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, something=np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"nothing", lambda _: archive(), lambda state: state[:-200]]
)
def test_damaged_and_foreign_states_are_refused(trained: Trained, damage: Callable[[bytes], bytes]) -> None:
    _, model, states, systems = trained
    with pytest.raises(InputError, match="a member's state must be one that this version of activeph can read but got"):
        model.load([damage(states[0])], systems)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_no_numbers_are_refused(kind: str, system: System) -> None:
    dataset = make_dataset(system, 6, kind=kind)
    dataset.targets[2, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        make_model(kind).fit(dataset, {system.name: system}, 0)
