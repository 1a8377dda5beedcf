"""Measures of calibration on errors of known distribution, and recalibration that brings them there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.models.calibration import calibration_metrics, fit_recalibration, take
from activeph.records import Block, Dataset


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


def test_uninformative_error_bars_become_a_constant() -> None:
    rng = np.random.default_rng(0)
    errors, deviations = 0.3 * rng.normal(size=(400, 1)), np.exp(2 * rng.normal(size=(400, 1)))
    fitted = fit_recalibration(errors, deviations)
    assert fitted.floors[0] == pytest.approx(0.3, rel=0.2)


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
