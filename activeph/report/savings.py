"""Labels saved at equal error: the answer of a campaign, with an interval that does not flatter.

Read off the learning curves averaged over repeats. If the arm ends with the smaller error, it saved the baseline's
budget minus the labels at which the arm reached the baseline's final error; if it ends with the larger one, the same
with the roles exchanged and the sign reversed. The count is therefore antisymmetric: two equal arms give 0 on average.
Where a curve is read, it is first made non-increasing by least squares (isotonic regression), because the first
crossing of a noisy curve comes too early; between rounds it is a straight line, as in the picture.

The interval has two sources of chance. Test structures are bootstrapped, the same draw for all arms. Repeats are too
few to bootstrap (on simulated campaigns of two repeats such intervals held the truth in 70 % of cases, not 95 %), so
the logarithm of each mean curve is shifted by a multivariate t variate whose covariance is that of the residuals of
all repeats of all arms about their arm's mean, pooled: the relative scatter is taken to be the same in all arms, and
the degrees of freedom are the sum over arms of (repeats - 1). Where test structures dominate, their chance enters
both ways and the interval is wider than it need be. Tested on simulated campaigns, ``tests/report/test_savings.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray
from activeph.report.results import Results, Round
from activeph.seeds import generator
from activeph.targets import TARGETS

N_DRAWS = 2000
LEVEL = 0.95
ERRORS = ("mae", "rmse")
"""Metrics whose equality is asked for. R2 on one test set is a function of the RMSE and would say the same."""


@dataclass(frozen=True)
class Saving:
    """Labels that ``arm`` saved against ``baseline`` at equal error of one target. Errors in the printed unit."""

    arm: str
    baseline: str
    target: str
    metric: str
    saved: float  # labels, negative where the baseline was better
    low: float  # ends of the 95 % interval, NaN with one repeat
    high: float
    least: float  # the smallest and largest count that the rounds measured could show
    most: float
    arm_error: float  # at the end of the arm's labels
    baseline_error: float
    arm_labels: float  # where the arm's curve ends
    baseline_labels: float
    repeats: int  # of the arm with fewer

    @property
    def reading(self) -> tuple[float, float, float]:
        """Where labels are compared: the error, and the labels at which arm and baseline have it.

        It is the larger of both final errors. Arms end at different label counts where goals stop them or pools end.
        """
        if self.arm_error <= self.baseline_error:
            return self.baseline_error, self.baseline_labels - self.saved, self.baseline_labels
        return self.arm_error, self.arm_labels, self.arm_labels + self.saved

    @property
    def verdict(self) -> str:
        """One of gain, loss, none (the interval, in whole labels, holds 0) and unknown (a single repeat)."""
        if np.isnan(self.low):
            return "unknown"
        return "gain" if round(self.low) > 0 else "loss" if round(self.high) < 0 else "none"


@dataclass(frozen=True, eq=False)
class Curves:
    """Errors of one arm on the label counts that all its repeats have reached: ``errors`` [draws, repeats, points]."""

    labels: FloatArray  # [points]
    errors: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Mean over repeats [draws, points]."""
        return np.asarray(self.errors.mean(axis=1))

    @property
    def residuals(self) -> FloatArray:
        """Logarithm of each repeat's error over the geometric mean of repeats, without resampling [repeats, points]."""
        logs = np.log(np.maximum(self.errors[0], np.finfo(float).tiny))
        return np.asarray(logs - logs.mean(axis=0))


def labels_saved(
    results: Results, arm: str, baseline: str, target: str, metric: str = "mae", n_draws: int = N_DRAWS
) -> Saving:
    """Return what ``arm`` saved against ``baseline``; draw 0 is the data as measured. Same results, same answer."""
    rng = generator("labels saved", target, metric)
    weights = bootstrap_weights(len(results.truth), n_draws, rng)
    curves = {name: arm_curves(results, name, target, metric, weights) for name in results.rounds}
    own, other = curves[arm], curves[baseline]
    freedom = sum(each.errors.shape[1] - 1 for each in curves.values())
    heavy = np.sqrt(freedom / rng.chisquare(max(freedom, 1), size=n_draws))
    own_mean, other_mean = (_shifted(each, curves.values(), heavy, rng) for each in (own, other))
    saved = saved_labels(own.labels, own_mean, other.labels, other_mean)
    repeats = min(own.errors.shape[1], other.errors.shape[1])
    tail = 50 * (1 - LEVEL)
    known = repeats > 1
    return Saving(
        arm=arm,
        baseline=baseline,
        target=target,
        metric=metric,
        saved=float(saved[0]),
        low=float(np.percentile(saved[1:], tail)) if known else np.nan,
        high=float(np.percentile(saved[1:], 100 - tail)) if known else np.nan,
        least=float(other.labels[0] - own.labels[-1]),
        most=float(other.labels[-1] - own.labels[0]),
        arm_error=float(own.mean[0, -1]),
        baseline_error=float(other.mean[0, -1]),
        arm_labels=float(own.labels[-1]),
        baseline_labels=float(other.labels[-1]),
        repeats=repeats,
    )


def bootstrap_weights(n_structures: int, n_draws: int, rng: np.random.Generator) -> FloatArray:
    """Return bootstrap weights of test structures [1 + draws, S], each row summing to 1; row 0 is uniform."""
    drawn = rng.multinomial(n_structures, np.full(n_structures, 1 / n_structures), size=n_draws)
    return np.vstack([np.ones(n_structures), drawn]) / n_structures


def arm_curves(results: Results, arm: str, target: str, metric: str, weights: FloatArray) -> Curves:
    """Return an arm's errors in the printed unit for every draw of ``weights`` [draws, S]."""
    column = results.target_names.index(target)
    truth, factor = results.truth[:, column], TARGETS[target].printed_factor
    repeats = list(results.rounds[arm].values())
    grid = common_grid([[round.labels for round in rounds] for rounds in repeats])
    errors = np.stack([_on_grid(rounds, grid, truth, column, metric, weights) for rounds in repeats], axis=1)
    return Curves(grid, errors * factor)


def common_grid(labels: Sequence[Sequence[float]]) -> FloatArray:
    """Return the label counts, or costs, of any repeat inside the range that all repeats cover."""
    first, last = max(counts[0] for counts in labels), min(counts[-1] for counts in labels)
    inside = {count for counts in labels for count in counts if first <= count <= last}
    return np.array(sorted(inside or {last}), dtype=np.float64)


def saved_labels(own_labels: FloatArray, own: FloatArray, other_labels: FloatArray, other: FloatArray) -> FloatArray:
    """Return labels saved [draws] for curves ``own`` and ``other`` [draws, points] on their label counts."""
    own_reach = reached(own_labels, non_increasing(own), other[:, -1])
    other_reach = reached(other_labels, non_increasing(other), own[:, -1])
    gained = other_labels[-1] - own_reach
    lost = other_reach - own_labels[-1]
    ahead = np.sign(other[:, -1] - own[:, -1])  # 0 on a tie, which gives the mean of both readings
    return np.asarray(0.5 * ((1 + ahead) * gained + (1 - ahead) * lost))


def non_increasing(curves: FloatArray) -> FloatArray:
    """Return the non-increasing curves nearest to ``curves`` [..., points] by least squares (isotonic regression).

    Min-max formula, R. E. Barlow et al., Statistical Inference under Order Restrictions (1972): the value at j is the
    smallest, over starts a <= j, of the largest mean over a..b with b >= j.
    """
    sums = np.cumsum(np.concatenate([np.zeros((*curves.shape[:-1], 1)), curves], axis=-1), axis=-1)
    n = curves.shape[-1]
    fit = np.empty_like(curves)
    for j in range(n):
        starts, stops = np.arange(j + 1), np.arange(j + 1, n + 1)
        means = (sums[..., None, stops] - sums[..., starts, None]) / (stops - starts[:, None])
        fit[..., j] = means.max(axis=-1).min(axis=-1)
    return fit


def reached(labels: FloatArray, curves: FloatArray, level: FloatArray) -> FloatArray:
    """Return the label count [draws] at which each non-increasing curve [draws, points] first is at ``level`` [draws].

    Linear between points; the first count where the curve starts below the level, the last where it never gets there.
    """
    below = curves <= level[:, None]
    after = np.where(below.any(axis=1), below.argmax(axis=1), len(labels) - 1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(curves))
    drop = curves[rows, before] - curves[rows, after]
    share = np.where(drop > 0, (curves[rows, before] - level) / np.where(drop > 0, drop, 1.0), 1.0)
    return np.asarray(labels[before] + np.clip(share, 0.0, 1.0) * (labels[after] - labels[before]))


def _shifted(own: Curves, arms: Collection[Curves], heavy: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the mean curves [1 + draws, points] of ``own`` with the chance of repeats added to all but the first.

    ``heavy`` [draws] turns normal into t variates; it is common to all arms, whose scatter is one unknown.
    """
    pooled = [np.interp(own.labels, each.labels, residual) for each in arms for residual in each.residuals]
    freedom = len(pooled) - len(arms)
    if freedom == 0:
        return own.mean
    normal = rng.standard_normal((len(heavy), len(pooled))) / np.sqrt(freedom * own.errors.shape[1])
    shift = np.vstack([np.zeros(len(own.labels)), heavy[:, None] * (normal @ np.array(pooled))])
    return np.asarray(own.mean * np.exp(np.clip(shift, -50, 50)))


def _on_grid(
    rounds: Sequence[Round], grid: FloatArray, truth: FloatArray, column: int, metric: str, weights: FloatArray
) -> FloatArray:
    """Return the errors [draws, points] of one repeat, linear between its rounds."""
    errors = np.stack([round.mean[:, column] - truth for round in rounds])  # [rounds, S]
    if metric == "mae":
        values = weights @ np.abs(errors).T
    elif metric == "rmse":
        values = np.sqrt(weights @ (errors**2).T)
    else:
        raise ValueError(f"metric must be one of {', '.join(ERRORS)} but got {metric!r}")
    counts = np.array([round.labels for round in rounds], dtype=np.float64)
    if np.array_equal(counts, grid):
        return np.asarray(values)
    return np.stack([np.interp(grid, counts, row) for row in values])
