"""Gaussian-process regression that single odd labels do not spoil.

The kernel is that of :mod:`activeph.models.kernel`; noise is Student's t, treated as normal noise whose variance each
label has for itself (expectation maximisation; Lange, Little, Taylor, J. Am. Stat. Assoc. 84, 881 (1989)).
Hyperparameters maximise the evidence (Rasmussen, Williams, "Gaussian Processes for Machine Learning", chapter 5);
inputs and targets come scaled to unit variance.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from activeph.models.kernel import Geometry, by_group, geometry_of, kernel, parts, prior_draw
from activeph.records import FloatArray

DEGREES_OF_FREEDOM = 4.0  # of the noise: gross outliers lose their weight, normal noise hardly changes the fit
OF_FIRST, OF_OTHERS = (0.0, 0.0, 1.0), (-2.0, -2.0, 1.0)  # logarithms to start from: linear, smooth amplitude, length
OF_NOISE = -1.0
PRIOR_WIDTH = 3.0  # of the logarithms around the start, so that few labels cannot drive them away
REACH = 5.0  # of the logarithms around the start: beyond it covariances are singular in double precision
LEAST_NOISE = -5.0  # logarithm
ROUNDS = 2  # of hyperparameters and label weights in turn
MAX_LABELS_FOR_EVIDENCE = 150
FOLDS = 5  # of the cross-validation
LEAST_FOLDED = 20  # labels
DIVISIONS = 6  # into folds, where they cost nothing


@dataclass(frozen=True, eq=False)
class Posterior:
    """One scalar function given labels: the mean, and one draw's deviation from it."""

    inputs: FloatArray  # [n, m]
    groups: tuple[int, ...]  # numbers of columns that make up m
    parameters: FloatArray  # [3 per group, then noise] logarithms
    mean_weights: FloatArray  # [n]
    draw_weights: FloatArray  # [n]
    noise: FloatArray  # [n] variances
    residuals: FloatArray  # [n] cross-validated errors: label minus what others predict
    residual_deviations: FloatArray  # [n] standard deviations that the others expect of them, without noise
    seed: int  # of the draw

    def mean(self, inputs: FloatArray) -> FloatArray:
        """Return the posterior mean [S]."""
        return kernel(inputs, self.inputs, self.groups, self.parameters) @ self.mean_weights

    def standard_deviation(self, inputs: FloatArray) -> FloatArray:
        """Return the posterior standard deviation [S], without noise."""
        across = kernel(inputs, self.inputs, self.groups, self.parameters)
        prior = np.zeros(len(inputs))
        for own, (linear, smooth, _) in by_group(inputs, self.groups, self.parameters):
            prior += np.exp(2 * linear) * (1 + np.mean(own**2, axis=1)) + np.exp(2 * smooth)
        return np.asarray(np.sqrt(_remaining(prior, across, self._factor)))

    @functools.cached_property
    def _factor(self) -> FloatArray:
        covariance = kernel(self.inputs, self.inputs, self.groups, self.parameters)
        return _cholesky(covariance + np.diag(self.noise))

    def errors(self) -> FloatArray:
        """Return errors [R, n] of left-out labels, to know the size of error bars from.

        Half of the rows are cross-validated: a little large, for lack of a fold's labels. Half are by the closed
        formula for random folds: a little small, as hyperparameters have seen them, but of several divisions.
        """
        from scipy.linalg import cho_solve

        n = len(self.residuals)
        if n < FOLDS:
            return self.refitted[None]
        inverse = cho_solve((self._factor, True), np.eye(n))
        closed = np.empty((DIVISIONS, n))
        for number, row in enumerate(closed):
            folds = np.random.Generator(np.random.SFC64(number)).permutation(n) % FOLDS
            for fold in range(FOLDS):
                out = np.flatnonzero(folds == fold)
                row[out] = np.linalg.solve(inverse[np.ix_(out, out)], self.mean_weights[out])
        return np.concatenate([np.tile(self.refitted, (DIVISIONS, 1)), closed])

    @functools.cached_property
    def refitted(self) -> FloatArray:
        """Errors [n] of labels by fits without those of their fold; of small sets, :attr:`residuals` are not."""
        if not 1 < len(self.residuals) < LEAST_FOLDED:
            return self.residuals
        used = self.groups[: int(np.sum(np.isfinite(self.parameters[:-1:3])))]
        parameters = np.append(self.parameters[: 3 * len(used)], self.parameters[-1])
        targets = self._factor @ (self._factor.T @ self.mean_weights)
        widths = self.noise / np.exp(2 * parameters[-1])
        return _fold_errors(self.inputs[:, : sum(used)], targets, used, parameters, widths)

    def deviation(self, inputs: FloatArray) -> FloatArray:
        """Return what one draw from the posterior adds to the mean [S] (Matheron's rule, arXiv:2002.09309)."""
        correction = kernel(inputs, self.inputs, self.groups, self.parameters) @ self.draw_weights
        return prior_draw(inputs, self.groups, self.parameters, self.seed) - correction


def fit_posterior(inputs: FloatArray, targets: FloatArray, seed: int, groups: tuple[int, ...] = ()) -> Posterior:
    """Return the posterior given inputs [n, m] and targets [n]; the mean does not depend on the seed.

    ``groups`` are the numbers of columns of each group of inputs, by default one group of all. Where the first group
    alone predicts left-out labels better, the others are ignored.
    """
    groups = groups or (inputs.shape[1],)
    trials = [_cross_validated(inputs, targets, groups[:n]) for n in sorted({1, len(groups)})]
    known, residuals, variances = min(trials, key=lambda trial: float(np.mean(np.abs(trial[1]))))
    ignored = len(groups) - len(known.parameters) // 3
    parameters = np.concatenate([known.parameters[:-1], [-np.inf, -np.inf, 0.0] * ignored, known.parameters[-1:]])
    rng = np.random.Generator(np.random.SFC64(seed))
    drawn = prior_draw(inputs, groups, parameters, seed) + np.sqrt(known.noise) * rng.normal(size=len(targets))
    return Posterior(
        inputs=inputs,
        groups=groups,
        parameters=parameters,
        mean_weights=known.solve(targets),
        draw_weights=known.solve(drawn),
        noise=known.noise,
        residuals=residuals,
        residual_deviations=np.sqrt(variances),
        seed=seed,
    )


def _remaining(prior: FloatArray, across: FloatArray, factor: FloatArray) -> FloatArray:
    """Return the variances [S] that labels leave of prior ones; ``across`` [S, n] are covariances with the labels."""
    from scipy.linalg import solve_triangular

    taken = np.sum(solve_triangular(factor, across.T, lower=True) ** 2, axis=0)
    return np.asarray(np.maximum(prior - taken, 1e-10 * prior))


@dataclass(frozen=True, eq=False)
class _Known:
    parameters: FloatArray
    widths: FloatArray  # [n] noise variances in units of the common one
    noise: FloatArray  # [n] variances
    factor: FloatArray  # [n, n] Cholesky factor of covariance and noise

    def solve(self, targets: FloatArray) -> FloatArray:
        """Return the weights [n] of the labels' covariances that yield the mean."""
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve((self.factor, True), targets))


def _know(
    inputs: FloatArray, targets: FloatArray, groups: tuple[int, ...], parameters: FloatArray, widths: FloatArray
) -> _Known:
    """Return hyperparameters and noise found in turn, and what follows from them."""
    few = slice(0, MAX_LABELS_FOR_EVIDENCE)
    geometry = geometry_of(inputs, inputs, groups)
    part = Geometry(geometry.inner[:, few, few], geometry.squares[:, few, few])
    for _ in range(ROUNDS):
        parameters = _maximise_evidence(part, targets[few], widths[few], parameters)
        widths = _noise_widths(geometry, targets, parameters, widths)
    noise = np.exp(2 * parameters[-1]) * widths
    linear, smooth = parts(geometry, parameters)
    return _Known(parameters, widths, noise, _cholesky((linear + smooth).sum(axis=0) + np.diag(noise)))


def _cross_validated(
    inputs: FloatArray, targets: FloatArray, groups: tuple[int, ...]
) -> tuple[_Known, FloatArray, FloatArray]:
    """Return the fit, what each label differs by from what others predict [n], and the variances they expect.

    Leave-one-out errors by the closed formula are too small where few labels have set hyperparameters and noise; here
    the labels of a fold have no part in either. Tiny sets keep the formula. The variances are by the formula: they
    must be those of the fit that predicts.
    """
    n = len(targets)
    known = _know(inputs, targets, groups, _start(len(groups)), np.ones(n))
    inverse = known.solve(np.eye(n))
    precision = np.diag(inverse)
    variances = np.maximum(1 / precision - known.noise, 0)
    if n < LEAST_FOLDED:
        return known, inverse @ targets / precision, variances
    residuals = _fold_errors(inputs, targets, groups, known.parameters, known.widths)
    return known, residuals, variances


def _fold_errors(
    inputs: FloatArray, targets: FloatArray, groups: tuple[int, ...], parameters: FloatArray, widths: FloatArray
) -> FloatArray:
    """Return errors [n] of labels by fits without those of their fold, which start from the whole fit."""
    errors = np.empty(len(targets))
    n_folds = min(FOLDS, len(targets))
    for fold in range(n_folds):
        out = np.arange(len(targets)) % n_folds == fold
        rest = ~out
        refit = _know(inputs[rest], targets[rest], groups, parameters, widths[rest])
        across = kernel(inputs[out], inputs[rest], groups, refit.parameters)
        errors[out] = targets[out] - across @ refit.solve(targets[rest])
    return errors


def _start(n_groups: int) -> FloatArray:
    return np.array([*OF_FIRST, *(OF_OTHERS * (n_groups - 1)), OF_NOISE])


def _maximise_evidence(geometry: Geometry, targets: FloatArray, widths: FloatArray, start: FloatArray) -> FloatArray:
    from scipy.optimize import minimize

    centre = _start(len(geometry.inner))
    found = minimize(
        _cost,
        start,
        args=(geometry, targets, widths),
        jac=True,
        method="L-BFGS-B",
        bounds=[*((value - REACH, value + REACH) for value in centre[:-1]), (LEAST_NOISE, centre[-1] + REACH)],
        options={"maxiter": 20},
    )
    return np.asarray(found.x)


def _cost(
    parameters: FloatArray, geometry: Geometry, targets: FloatArray, widths: FloatArray
) -> tuple[float, FloatArray]:
    """Return the negative logarithm of evidence times prior, and its gradient."""
    linear, smooth = parts(geometry, parameters)
    noise = np.exp(2 * parameters[-1]) * widths + 1e-10
    covariance = (linear + smooth).sum(axis=0) + np.diag(noise)
    factor = _cholesky(covariance)
    inverse = np.linalg.inv(covariance)
    weights = inverse @ targets
    cost = 0.5 * targets @ weights + np.sum(np.log(np.diag(factor)))
    sensitivity = 0.5 * (inverse - np.outer(weights, weights))  # d cost / d covariance
    lengths = np.exp(-2 * parameters[2:-1:3])[:, None, None]
    slopes = [
        2 * np.sum(sensitivity * linear, axis=(1, 2)),
        2 * np.sum(sensitivity * smooth, axis=(1, 2)),
        np.sum(sensitivity * smooth * geometry.squares * lengths, axis=(1, 2)),
    ]
    of_noise = np.sum(np.diag(sensitivity) * 2 * np.exp(2 * parameters[-1]) * widths)
    away = (parameters - _start(len(linear))) / PRIOR_WIDTH
    return float(cost + 0.5 * away @ away), np.append(np.transpose(slopes).ravel(), of_noise) + away / PRIOR_WIDTH


def _noise_widths(geometry: Geometry, targets: FloatArray, parameters: FloatArray, widths: FloatArray) -> FloatArray:
    """Return each label's noise variance in units of the common one, from its leave-one-out error."""
    linear, smooth = parts(geometry, parameters)
    covariance = (linear + smooth).sum(axis=0)
    common = np.exp(2 * parameters[-1])
    for _ in range(5):
        inverse = np.linalg.inv(covariance + np.diag(common * widths))
        precision = np.diag(inverse)
        errors = (inverse @ targets) / precision
        variances = common + np.maximum(1 / precision - common * widths, 0)
        widths = (DEGREES_OF_FREEDOM + errors**2 / variances) / (DEGREES_OF_FREEDOM + 1)
    return widths


def _cholesky(covariance: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor; labels that are all but equal get the least diagonal that makes one exist."""
    scale = float(np.mean(np.diag(covariance)))
    for jitter in (0.0, 1e-12, 1e-10, 1e-8, 1e-6):
        try:
            return np.asarray(np.linalg.cholesky(covariance + jitter * scale * np.eye(len(covariance))))
        except np.linalg.LinAlgError:
            continue
    return np.asarray(np.linalg.cholesky(covariance + 1e-4 * scale * np.eye(len(covariance))))
