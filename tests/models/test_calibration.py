"""Measures of calibration on errors of known distribution, and recalibration that brings them there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.models.calibration import (
    calibration_metrics,
    fit_recalibration,
    recalibrate_ensemble,
    recalibrated,
    take,
    unseen,
    unseen_values,
)
from activeph.records import Block, Dataset, System


def drawn(n: int, seed: int = 0, overconfidence: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    deviations = np.exp(0.5 * rng.normal(size=n))
    return deviations * rng.normal(size=n), deviations / overconfidence


def test_perfect_error_bars() -> None:
    quality = calibration_metrics(*drawn(20_000))
    assert quality["miscalibration_area"] < 0.01
    assert quality["coverage_68"] == pytest.approx(0.6827, abs=0.01)
    assert quality["coverage_95"] == pytest.approx(0.9545, abs=0.01)
    assert quality["spearman"] > 0.3
    assert quality["nll"] == pytest.approx(0.5 + 0.5 * np.log(2 * np.pi), abs=0.03)  # mean log deviation is 0


def test_overconfident_error_bars() -> None:
    quality = calibration_metrics(*drawn(20_000, overconfidence=3.0))
    assert quality["miscalibration_area"] > 0.25
    assert quality["coverage_68"] < 0.3


def test_error_bars_of_no_length_are_the_worst() -> None:
    errors, deviations = drawn(100)
    quality = calibration_metrics(errors, 0 * deviations)
    assert quality["miscalibration_area"] == pytest.approx(0.5, abs=0.01)
    assert quality["nll"] == np.inf


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), overconfidence=st.floats(0.2, 8.0))
def test_recalibration_mends_any_factor(seed: int, overconfidence: float) -> None:
    known, fresh = drawn(150, seed, overconfidence), drawn(2000, seed + 1, overconfidence)
    fitted = fit_recalibration(known[0][:, None], known[1][:, None])
    quality = calibration_metrics(fresh[0], fitted.apply(fresh[1][:, None])[:, 0])
    assert quality["miscalibration_area"] < 0.08


def test_uninformative_error_bars_become_almost_a_constant() -> None:
    rng = np.random.default_rng(0)
    errors, deviations = 0.3 * rng.normal(size=(400, 1)), np.exp(2 * rng.normal(size=(400, 1)))
    fitted = fit_recalibration(errors, deviations)
    assert fitted.floors[0] == pytest.approx(0.3, rel=0.2)
    assert np.array_equal(np.argsort(fitted.apply(deviations)[:, 0]), np.argsort(deviations[:, 0]))  # selectors rank


def test_outliers_do_not_blow_up_the_error_bars() -> None:
    errors, deviations = drawn(100, 3)
    errors[:3] = 50.0
    fitted = fit_recalibration(errors[:, None], deviations[:, None])
    assert np.median(fitted.apply(deviations[:, None])) < 1.6 * np.median(deviations)


def block_of(n: int) -> Block:
    positions = np.arange(n, dtype=float)[:, None, None] * np.ones((1, 2, 3))
    return Block("a", np.ones((n, 2), dtype=np.int64), positions, np.tile(np.eye(3), (n, 1, 1)), np.zeros(n))


def dataset_of(n: int) -> Dataset:
    targets = np.arange(n, dtype=float)[:, None]
    return Dataset((block_of(n),), ("x",), targets, targets[:, 0], (np.zeros((n, 2, 3)),), np.zeros((n, 6)))


def test_taken_rows_keep_their_labels() -> None:
    part = take(dataset_of(9), [7, 2, 5])
    assert part.targets[:, 0].tolist() == [2, 5, 7]
    assert part.blocks[0].positions[:, 0, 0].tolist() == [2, 5, 7]
    assert len(part.forces[0]) == 3


def ensemble_of(
    n: int, n_members: int, adapted: float, seed: int, together: float = 1.0
) -> tuple[list[dict[str, torch.Tensor]], np.ndarray]:
    """Members that err together and apart, and ``adapted``: how much of it they unlearn where they saw the label.

    Returns their records, and errors [K, 2000, 1] elsewhere. All sizes vary from label to label.
    """
    rng = np.random.default_rng(seed)
    sizes = np.exp(0.5 * rng.normal(size=(3, n + 2000)))[0]
    shared, apart = together * sizes * rng.normal(size=n + 2000), 0.5 * sizes * rng.normal(size=(n_members, n + 2000))
    errors = shared + apart
    records = []
    for own in range(n_members):
        held = rng.uniform(size=n) < 0.15
        values = np.where(held, errors[own, :n], (1 - adapted) * errors[own, :n])
        arrays = {
            "targets": np.zeros((n, 1)),
            "values": values[:, None],
            "unseen": (0.5 * sizes[:n] * rng.normal(size=n))[:, None],
            "held_out": np.flatnonzero(held),
        }
        records.append({name: torch.from_numpy(array) for name, array in arrays.items()})
    return records, errors[:, n:, None]


@pytest.mark.parametrize("adapted", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("n_members", [3, 5])
def test_an_ensembles_error_bars_are_those_of_its_mean_on_labels_nobody_saw(adapted: float, n_members: int) -> None:
    records, elsewhere = ensemble_of(1000, n_members, adapted, 0)
    members = recalibrated(elsewhere, recalibrate_ensemble(records))
    quality = calibration_metrics(members.mean(axis=0)[:, 0], members.std(axis=0, ddof=1)[:, 0])
    assert quality["miscalibration_area"] < 0.04
    assert quality["coverage_68"] == pytest.approx(0.6827, abs=0.07)
    np.testing.assert_allclose(members.mean(axis=0), elsewhere.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("together", [0.0, 1.0])
@pytest.mark.parametrize("adapted", [0.5, 0.8])
def test_error_bars_where_the_mirror_image_is_the_label_itself(adapted: float, together: float) -> None:
    ratios = []
    for seed in range(8):
        records, elsewhere = ensemble_of(200, 5, adapted, seed, together)
        images = [record | {"unseen": record["values"] + 1e-7} for record in records]
        members = recalibrated(elsewhere, recalibrate_ensemble(images))
        ratios.append(members.std(axis=0, ddof=1).mean() / np.sqrt(np.mean(members.mean(axis=0) ** 2)))
    assert 0.6 < np.mean(ratios) < 1.4


def test_images_that_are_new_are_used_as_they_are() -> None:
    records, _ = ensemble_of(100, 5, 0.5, 0)
    images = np.array([record["unseen"].numpy() for record in records])
    assert np.array_equal(unseen_values(records), images)


def test_recalibration_of_few_labels_is_no_worse_than_its_size_is_known() -> None:
    areas = []
    for seed in range(12):
        records, elsewhere = ensemble_of(100, 5, 0.5, seed)
        members = recalibrated(elsewhere, recalibrate_ensemble(records))
        quality = calibration_metrics(members.mean(axis=0)[:, 0], members.std(axis=0, ddof=1)[:, 0])
        areas.append(quality["miscalibration_area"])
    assert np.mean(areas) < 0.06


@pytest.mark.parametrize(("adapted", "at_most"), [(0.0, 0.8), (0.5, 1.1)])
def test_labels_that_were_seen_help_where_they_are_not_known_by_heart(adapted: float, at_most: float) -> None:
    areas: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(24):
        records, elsewhere = ensemble_of(50, 3, adapted, seed)
        for with_seen, found in areas.items():
            members = recalibrated(elsewhere, recalibrate_ensemble(records, with_seen))
            quality = calibration_metrics(members.mean(axis=0)[:, 0], members.std(axis=0, ddof=1)[:, 0])
            found.append(quality["miscalibration_area"])
    assert np.mean(areas[True]) < at_most * np.mean(areas[False])


def test_one_member_has_no_error_bars_to_correct() -> None:
    records, elsewhere = ensemble_of(50, 1, 0.5, 0)
    assert np.array_equal(recalibrated(elsewhere, recalibrate_ensemble(records)), elsewhere)


def test_unseen_configurations_have_the_same_targets(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    cell = system.supercell
    positions = cell.positions + 0.05 * np.random.default_rng(0).normal(size=(4, len(cell.numbers), 3))
    known = Block(system.name, np.tile(cell.numbers, (4, 1)), positions, np.tile(cell.cell, (4, 1, 1)), np.zeros(4))
    other = block_of(9)
    targets = np.arange(13.0)[:, None]
    forces = (np.zeros_like(positions), np.zeros((9, 2, 3)))
    dataset = Dataset((known, other), ("x",), targets, targets[:, 0], forces, np.zeros((13, 6)))
    new = unseen(dataset, {system.name: system})
    assert np.array_equal(new.targets, targets)
    assert np.array_equal(new.blocks[1].positions, other.positions)  # a crystal nobody described
    assert np.abs(new.blocks[0].positions - positions).max() > 0.01
