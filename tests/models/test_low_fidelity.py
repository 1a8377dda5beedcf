"""Models that correct a cheap code: right slopes, right fallbacks, honest spreads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.models.learner import learner
from activeph.models.low_fidelity import WithLowFidelity, fit_lines
from activeph.models.modes import ModesModel
from activeph.records import Block, Dataset, FloatArray, System
from activeph.targets import ELECTRONIC, STRESS_COMPONENTS

NAMES = ("band_gap", "energy_per_atom")
MODEL = WithLowFidelity(ModesModel(members=3))


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


def labelled(system: System, n: int, seed: int = 0, slope: float = 0.8) -> Dataset:
    """Return labels whose gap is mostly noise to a model, but not to the cheap code, and whose energy is harmonic."""
    rng = np.random.default_rng(seed)
    cell = system.supercell
    moves = 0.1 * rng.normal(size=(n, len(cell.numbers), 3))
    moves -= moves.mean(axis=1, keepdims=True)
    hidden = rng.normal(size=n)
    energy = np.sum(moves**2, axis=(1, 2))
    gap = 5 + slope * hidden + 0.5 * (energy - energy.mean())
    low = np.full((n, 3), np.nan)
    low[:, 0], low[:, 1:] = hidden + 2, 0.0
    shape = (np.tile(cell.numbers, (n, 1)), cell.positions + moves, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0))
    targets = np.stack([gap, energy], axis=1)
    block = Block(system.name, *shape, low)
    return Dataset((block,), NAMES, targets, targets[:, 1], (np.zeros_like(moves),), np.zeros((n, 6)))


def error(truth: Dataset, mean: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.mean((mean - truth.targets) ** 2, axis=0)) / truth.targets.std(axis=0))


def trained(system: System, dataset: Dataset, model: WithLowFidelity = MODEL):  # type: ignore[no-untyped-def]
    systems = {system.name: system}
    return model.load([model.fit(dataset, systems, seed) for seed in range(model.members)], systems)


def test_what_the_cheap_code_knows_is_not_learned_again(system: System) -> None:
    train, test = labelled(system, 60), labelled(system, 80, 1)
    corrected = trained(system, train).predict(test.blocks[0])
    systems = {system.name: system}
    plain = MODEL.model.load([MODEL.model.fit(train, systems, seed) for seed in range(3)], systems)
    assert error(test, corrected.mean)[0] < 0.3 < 0.7 < error(test, plain.predict(test.blocks[0]).mean)[0]
    assert error(test, corrected.mean)[1] == pytest.approx(error(test, plain.predict(test.blocks[0]).mean)[1], rel=0.2)
    scale = train.targets.std(axis=0)
    assert corrected.scale == pytest.approx(scale, rel=0.02)  # that of the targets, not of the corrections


def test_the_slope_is_least_squares_and_zero_where_nothing_is_known(system: System) -> None:
    dataset = labelled(system, 60)
    lines = fit_lines(dataset)
    expected = np.polyfit(dataset.blocks[0].low_fidelity[:, 0], dataset.targets[:, 0], 1)[0]  # type: ignore[index]
    assert lines.slopes == pytest.approx([expected, 0, 0])
    unrelated = fit_lines(labelled(system, 4, seed=5, slope=0.0))
    assert abs(unrelated.slopes[0]) < 0.1  # four labels and no relation
    (block,) = dataset.blocks
    for low in (None, np.full((60, 3), np.nan), np.ones((60, 3))):
        assert not fit_lines(replace(dataset, blocks=(replace(block, low_fidelity=low),))).slopes.any()


def test_the_slope_is_judged_on_labels_left_out() -> None:
    """The closed form of leave-one-out errors against leaving each label out in turn."""
    from activeph.models.low_fidelity import _slope

    rng = np.random.default_rng(0)
    n_zero = 0
    for _ in range(200):
        x, y = rng.normal(size=(2, 6))
        line, mean = [], []
        for out in range(6):
            kept = np.arange(6) != out
            slope, start = np.polyfit(x[kept], y[kept], 1)
            line.append(y[out] - slope * x[out] - start)
            mean.append(y[out] - y[kept].mean())
        found = _slope(x - x.mean(), y - y.mean())
        wanted = np.polyfit(x, y, 1)[0] if np.sum(np.square(line)) < np.sum(np.square(mean)) else 0.0
        assert found == pytest.approx(wanted, abs=1e-12)
        n_zero += found == 0
    assert n_zero > 100  # noise is mostly recognised


def test_pools_are_compared_without_asking_the_cheap_code(system: System) -> None:
    predictor = trained(system, labelled(system, 60))
    (block,) = labelled(system, 20, 2).blocks
    asked, unasked = predictor.predict(block), predictor.predict(replace(block, low_fidelity=None))
    assert np.array_equal(asked.features, unasked.features)
    assert asked.std == pytest.approx(unasked.std)
    assert asked.uncertainty == pytest.approx(unasked.uncertainty)
    shift = (asked.mean - unasked.mean)[:, 0]
    assert np.corrcoef(shift, block.low_fidelity[:, 0])[0, 1] > 0.999999  # type: ignore[index]
    assert (asked.mean - unasked.mean)[:, 1] == pytest.approx(0)


def test_where_the_cheap_code_failed_the_spread_says_what_is_missing(system: System) -> None:
    predictor = trained(system, labelled(system, 60))
    (block,) = labelled(system, 20, 2).blocks
    holes = block.low_fidelity.copy()  # type: ignore[union-attr]
    holes[::2] = np.nan
    whole, holey = predictor.predict(block), predictor.predict(replace(block, low_fidelity=holes))
    assert holey.members[:, 1::2] == pytest.approx(whole.members[:, 1::2])
    expected = np.sqrt(whole.std[::2, 0] ** 2 + (0.8 * 1.0) ** 2)  # slope times the cheap code's spread
    assert holey.std[::2, 0] == pytest.approx(expected, rel=0.15)
    assert holey.std[::2, 1] == pytest.approx(whole.std[::2, 1])


def test_labels_for_which_the_cheap_code_failed_are_left_out(system: System) -> None:
    dataset, systems = labelled(system, 40), {system.name: system}
    (block,) = dataset.blocks
    holes = block.low_fidelity.copy()  # type: ignore[union-attr]
    holes[30:] = np.nan
    part = replace(block, **{k: getattr(block, k)[:30] for k in ("species", "positions", "cells", "temperatures")})
    part = replace(part, low_fidelity=holes[:30])
    few = Dataset((part,), NAMES, dataset.targets[:30], dataset.energies[:30], (dataset.forces[0][:30],),
                  dataset.stresses[:30])  # fmt: skip
    with_holes = replace(dataset, blocks=(replace(block, low_fidelity=holes),))
    assert MODEL.inner(MODEL.fit(with_holes, systems, 0)) == MODEL.inner(MODEL.fit(few, systems, 0))


def test_a_fit_can_go_on_from_an_earlier_one_and_is_deterministic(system: System) -> None:
    dataset, systems = labelled(system, 30), {system.name: system}
    first = MODEL.fit(dataset, systems, 0)
    assert MODEL.fit(dataset, systems, 0) == first
    assert MODEL.fit(dataset, systems, 0, first) == MODEL.fit(dataset, systems, 0, first)


def test_the_stress_tensor_lies_on_top() -> None:
    names = ("band_gap", *STRESS_COMPONENTS)
    model = learner(ModesModel(members=1), names, True)
    assert isinstance(model.model, WithLowFidelity)  # type: ignore[attr-defined]
    assert isinstance(learner(ModesModel(members=1), ("band_gap",), True), WithLowFidelity)
    assert isinstance(learner(ModesModel(members=1), ("band_gap",), False), ModesModel)
    assert ELECTRONIC[0] == "band_gap"
