"""How wrong predictions are, and whether their uncertainties tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from activeph.records import FloatArray
from activeph.targets import TARGETS

METRICS = (
    "mae",
    "rmse",
    "r2",
    "max_error",
    "spearman",
    "nll",
    "coverage_68",
    "coverage_95",
    "miscalibration_area",
)
"""Names in ``metrics.json`` and ``metrics.csv``; errors in the target's printed unit, the others without unit."""

ONE_SIGMA, TWO_SIGMA = 1.0, 1.959963984540054
"""Half widths, in standard deviations, of the central 68.27 % and 95 % of a normal distribution."""


def metrics_record(
    truth: FloatArray, mean: FloatArray, std: FloatArray, target_names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Return all metrics of each target by name.

    ``truth``, ``mean`` and ``std`` are [S, P] in the targets' internal units. A metric that is undefined (R2 of
    constant targets, calibration without spread) is None.
    """
    record = {}
    for column, name in enumerate(target_names):
        factor = TARGETS[name].printed_factor
        record[name] = target_metrics(truth[:, column] * factor, mean[:, column] * factor, std[:, column] * factor)
    return record


def goals_met(goals: Mapping[str, float], record: Mapping[str, Mapping[str, float | None]]) -> bool:
    """Return whether there are goals and no MAE of ``record`` exceeds its own; one that is unknown meets none."""
    errors = ((record[name]["mae"], goal) for name, goal in goals.items())
    return bool(goals) and all(error is not None and error <= goal for error, goal in errors)


def metrics_by_temperature(
    truth: FloatArray, mean: FloatArray, std: FloatArray, target_names: Sequence[str], temperatures: FloatArray
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return :func:`metrics_record` for each temperature [S] in K (key ``"300"``), NaN left out."""
    known = np.unique(temperatures[np.isfinite(temperatures)])
    rows = {f"{temperature:g}": temperatures == temperature for temperature in known}
    return {key: metrics_record(truth[row], mean[row], std[row], target_names) for key, row in rows.items()}


def metrics_by_system(
    truth: FloatArray, mean: FloatArray, std: FloatArray, target_names: Sequence[str], systems: Sequence[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return :func:`metrics_record` for each system [S] by name."""
    rows = {name: np.array([system == name for system in systems]) for name in sorted(set(systems))}
    return {name: metrics_record(truth[row], mean[row], std[row], target_names) for name, row in rows.items()}


def target_metrics(truth: FloatArray, mean: FloatArray, std: FloatArray) -> dict[str, float | None]:
    """Return the metrics of one target from truth, predicted mean and standard deviation, all [S] in one unit."""
    error = mean - truth
    values = {
        "mae": float(np.mean(np.abs(error))),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": _r2(truth, error),
        "max_error": float(np.max(np.abs(error))),
        **_calibration(error, std),
    }
    return {name: None if value is None or not np.isfinite(value) else value for name, value in values.items()}


def miscalibration_area(error: FloatArray, std: FloatArray) -> float:
    """Return the area between expected and observed shares of truths inside central intervals, 0 to 1/2.

    Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020). The integral over all confidence levels is exact: it is
    that of |F(p) - p|, where F is the empirical distribution of the level at which each truth enters its interval.
    """
    from scipy.special import erf

    levels = np.sort(erf(np.abs(error) / std / np.sqrt(2.0)))
    edges = np.concatenate([[0.0], levels, [1.0]])
    heights = np.arange(len(levels) + 1) / len(levels)
    left, right = edges[:-1] - heights, edges[1:] - heights  # p - F(p) at both ends of each step
    crossing = (left < 0) & (right > 0)
    area = np.where(crossing, (left**2 + right**2) / 2, np.abs(right**2 - left**2) / 2)
    return float(area.sum())


def _r2(truth: FloatArray, error: FloatArray) -> float | None:
    variance = float(np.mean((truth - truth.mean()) ** 2))
    return 1.0 - float(np.mean(error**2)) / variance if variance > 0 else None


def _calibration(error: FloatArray, std: FloatArray) -> dict[str, float | None]:
    if not np.all(std > 0):
        return dict.fromkeys(METRICS[4:])
    reduced = np.abs(error) / std
    return {
        "spearman": _spearman(np.abs(error), std),
        "nll": float(np.mean(0.5 * np.log(2 * np.pi * std**2) + 0.5 * reduced**2)),
        "coverage_68": float(np.mean(reduced <= ONE_SIGMA)),
        "coverage_95": float(np.mean(reduced <= TWO_SIGMA)),
        "miscalibration_area": miscalibration_area(error, std),
    }


def _spearman(one: FloatArray, other: FloatArray) -> float | None:
    from scipy.stats import rankdata

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
