"""Metrics against scikit-learn, scipy, and what normal errors must give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from activeph.report.metrics import (
    METRICS,
    goals_met,
    metrics_by_temperature,
    metrics_record,
    miscalibration_area,
    target_metrics,
)


def sample(size: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth, std = rng.normal(size=size), rng.uniform(0.1, 1.0, size=size)
    return truth, truth + std * rng.normal(size=size), std


def test_equals_independent_codes() -> None:
    truth, mean, std = sample()
    found = target_metrics(truth, mean, std)
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, mean), rel=1e-12)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, mean), rel=1e-12)
    assert found["r2"] == pytest.approx(r2_score(truth, mean), rel=1e-12)
    assert found["max_error"] == np.abs(truth - mean).max()
    assert found["spearman"] == pytest.approx(spearmanr(np.abs(mean - truth), std).statistic, rel=1e-12)
    assert found["nll"] == pytest.approx(-norm(mean, std).logpdf(truth).mean(), rel=1e-12)


def test_calibrated_errors_are_found_calibrated() -> None:
    found = target_metrics(*sample(100_000))
    assert found["coverage_68"] == pytest.approx(0.6827, abs=0.006)
    assert found["coverage_95"] == pytest.approx(0.95, abs=0.003)
    assert found["miscalibration_area"] < 0.005


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_miscalibration_area_equals_a_fine_sum(factor: float) -> None:
    truth, mean, std = sample()
    std = std * factor
    levels = (np.arange(20_000) + 0.5) / 20_000
    half_widths = norm.ppf((1 + levels) / 2)
    inside = np.abs(mean - truth)[:, None] <= half_widths * std[:, None]
    assert miscalibration_area(mean - truth, std) == pytest.approx(np.abs(inside.mean(0) - levels).mean(), abs=1e-4)


def test_miscalibration_area_limits() -> None:
    ones = np.ones(50)
    assert miscalibration_area(0 * ones, ones) == pytest.approx(0.5)  # always inside
    assert miscalibration_area(1e6 * ones, ones) == pytest.approx(0.5)  # never inside
    exact = norm.ppf((1 + (np.arange(50) + 0.5) / 50) / 2)
    assert miscalibration_area(exact, ones) == pytest.approx(0.25 / 50)


def test_undefined_metrics_are_none_and_the_record_is_json() -> None:
    found = target_metrics(np.ones(4), np.array([1.0, 1.5, 1.0, 1.0]), np.zeros(4))
    assert set(found) == set(METRICS)
    assert found["mae"] == pytest.approx(0.125)
    assert all(found[name] is None for name in ("r2", "spearman", "nll", "coverage_68", "miscalibration_area"))
    assert target_metrics(np.arange(3.0), np.zeros(3), np.ones(3))["spearman"] is None
    json.dumps(found, allow_nan=False)


def test_an_error_that_is_no_number_meets_no_goal() -> None:
    truth, mean, std = (one[:, None] for one in sample())
    record = metrics_record(truth, mean, std, ["band_gap"])
    assert goals_met({"band_gap": 10.0}, record)
    assert not goals_met({"band_gap": 1e-6}, record)
    assert not goals_met({}, record)
    mean[3] = np.nan
    assert not goals_met({"band_gap": 10.0}, metrics_record(truth, mean, std, ["band_gap"]))


def test_record_is_in_printed_units() -> None:
    truth = np.zeros((3, 2))
    mean = np.full((3, 2), 0.002)
    record = metrics_record(truth, mean, mean, ["energy_per_atom", "hydrostatic_stress"])
    assert record["energy_per_atom"]["mae"] == pytest.approx(2.0)  # meV
    assert record["hydrostatic_stress"]["max_error"] == pytest.approx(0.32043532)  # GPa


def test_by_temperature_takes_the_rows_apart() -> None:
    truth, mean = np.zeros((4, 1)), np.array([[1.0], [2.0], [4.0], [8.0]])
    temperatures = np.array([150.0, 300.0, 300.0, np.nan])
    record = metrics_by_temperature(truth, mean, np.ones((4, 1)), ["band_gap"], temperatures)
    assert {key: value["band_gap"]["mae"] for key, value in record.items()} == {"150": 1.0, "300": 3.0}
