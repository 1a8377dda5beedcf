"""What kind ``modes`` reads of crystals without labels and of crystals so small that pairs repeat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from activeph.graphs.batch import slice_block
from activeph.models.modes import ModesModel, fit_modes
from activeph.records import Block, Dataset, System


def shaken(system: System, n: int, seed: int = 0) -> Block:
    crystal = system.supercell
    positions = crystal.positions + 0.05 * np.random.default_rng(seed).normal(size=(n, len(crystal.numbers), 3))
    return Block(
        system.name, np.tile(crystal.numbers, (n, 1)), positions, np.tile(crystal.cell, (n, 1, 1)), np.zeros(n)
    )


def labelled(block: Block) -> Dataset:
    targets = np.linspace(0, 1, len(block))[:, None]
    return Dataset(
        (block,), ("x",), targets, targets[:, 0], (np.zeros_like(block.positions),), np.zeros((len(block), 6))
    )


def test_features_of_a_crystal_without_labels_do_not_depend_on_the_block(crystal: Callable[..., System]) -> None:
    known, other = crystal("rocksalt"), crystal("perovskite")
    model = ModesModel(members=2)
    systems = {known.name: known, other.name: other}
    states = [model.fit(labelled(shaken(known, 20)), {known.name: known}, seed) for seed in range(2)]
    predictor, block = model.load(states, systems), shaken(other, 9)
    whole = predictor.predict(block).features
    alone = predictor.predict(slice_block(block, np.array([8]))).features
    np.testing.assert_allclose(alone[0], whole[8], atol=1e-9)


def test_rounding_is_no_feature(crystal: Callable[..., System]) -> None:
    system = crystal("perovskite", [1, 1, 1])  # some pairs are an atom and its own images: their sums are constant
    fit = fit_modes(labelled(shaken(system, 70)), {system.name: system}, 0).systems[system.name]
    varied = fit.spread[fit.spread != 1.0]
    assert varied.min() > 1e-7 * np.abs(fit.centre).max()
