"""Bayesian linear regression of tensors on features that turn as they do, hence equivariant whatever the labels say.

Weights have normal priors whose variance each group of features has for itself; these and the noise maximise the
evidence (C. M. Bishop, "Pattern Recognition and Machine Learning", section 3.5). The rest is exact: mean, covariance,
draws, and the errors that each structure has when it is left out. Noise is Student's t, treated as in
:mod:`activeph.models.gaussian_process`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray, IntArray

START = np.array(
    [2.0, -1.0, -1.0, -2.0, -2.0]
)  # logarithms: amplitudes of the groups, noise; in units of the labels' spread
PRIOR_WIDTH = 3.0  # of the logarithms around the start
REACH = 4.0  # of the logarithms: beyond it covariances are singular in double precision
MAX_STRUCTURES_FOR_EVIDENCE = 60
DEGREES_OF_FREEDOM = 4.0  # of the noise, Student's t: single odd structures lose their weight
ROUNDS = 3  # of hyperparameters and structures' weights in turn
VARIED = 1e-4  # of the largest of its group: a feature that varies less is constant but for single-precision rounding
KEPT = 1e-10  # of the largest variance: what is smaller drowns in rounding errors of the larger ones


@dataclass(frozen=True, eq=False)
class LinearPosterior:
    """Weights of features whose priors have unit variance once multiplied by ``columns``; labels in units of one."""

    columns: FloatArray  # [F]
    mean_weights: FloatArray  # [F]
    directions: FloatArray  # [F, r] orthonormal, those that labels have informed
    known: FloatArray  # [r] share of the prior variance that the labels took away
    draw_weights: FloatArray  # [F] one draw's deviation from the mean

    def mean(self, features: FloatArray) -> FloatArray:
        """Return the posterior mean [B, 6] from features [B, 6, F]."""
        return np.asarray((features * self.columns) @ self.mean_weights)

    def covariance(self, features: FloatArray) -> FloatArray:
        """Return the posterior covariance [B, 6, 6], without noise."""
        scaled = features * self.columns
        informed = scaled @ self.directions
        return np.asarray(scaled @ scaled.transpose(0, 2, 1) - (informed * self.known) @ informed.transpose(0, 2, 1))

    def deviation(self, features: FloatArray) -> FloatArray:
        """Return what one draw adds to the mean [B, 6]."""
        return np.asarray((features * self.columns) @ self.draw_weights)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What the others say of each structure: errors [S, 6] and covariances without noise [S, 6, 6]."""

    errors: FloatArray
    covariances: FloatArray


def fit_linear(
    features: FloatArray, labels: FloatArray, groups: IntArray, seed: int
) -> tuple[LinearPosterior, LeftOut]:
    """Return the posterior of weights given features [S, 6, F] and labels [S, 6] in units of their spread.

    ``groups`` [F] are numbered from 0. Only the draw depends on ``seed``.
    """
    spreads = np.sqrt(np.mean(features**2, axis=(0, 1)))
    largest = np.zeros(groups.max() + 1)
    np.maximum.at(largest, groups, spreads)
    spreads = np.where(spreads > VARIED * largest[groups], spreads, largest[groups])  # what it weighs is not known
    spreads = np.where(spreads > 0, spreads, np.inf)
    equal = 1 / spreads / np.sqrt(np.bincount(groups)[groups])
    widths = np.ones(len(labels))
    for _ in range(ROUNDS):
        parameters = _maximise_evidence(features * equal, labels, widths, groups)
        noise = np.exp(2 * parameters[-1])
        columns = equal * np.exp(parameters[:-1])[groups]
        for _ in range(ROUNDS):
            solved = _solve(features * columns, labels, widths, noise)
            widths = _noise_widths(solved.left_out, noise)
    solved = _solve(features * columns, labels, widths, noise)
    z = np.random.Generator(np.random.SFC64(seed)).normal(size=len(columns))
    directions, known = solved.directions, solved.known
    drawn = z - directions @ ((1 - np.sqrt(1 - known)) * (directions.T @ z))
    return LinearPosterior(columns, solved.weights, directions, known, drawn), solved.left_out


@dataclass(frozen=True, eq=False)
class _Solved:
    weights: FloatArray  # [F]
    directions: FloatArray  # [F, r]
    known: FloatArray  # [r]
    left_out: LeftOut


def _solve(features: FloatArray, labels: FloatArray, widths: FloatArray, noise: float) -> _Solved:
    """Return the posterior for features [S, 6, F] of unit prior; noise variances are ``noise`` times ``widths`` [S]."""
    scales = np.sqrt(widths)[:, None]
    design = (features / scales[:, :, None]).reshape(-1, features.shape[2])
    white = (labels / scales).ravel()
    left, variances, directions = _principal(design)
    known = variances / (variances + noise)
    coordinates = left.T @ white
    weights = directions @ (np.sqrt(variances) / (variances + noise) * coordinates)
    residuals = (white - left @ (known * coordinates)).reshape(labels.shape)
    size = labels.shape[1]
    blocks = left.reshape(*labels.shape, -1)
    unseen = np.linalg.inv((1 + 1e-9) * np.eye(size) - (blocks * known) @ blocks.transpose(0, 2, 1))
    errors = np.einsum("skl,sl->sk", unseen, residuals) * scales
    covariances = noise * (unseen - np.eye(size)) * widths[:, None, None]
    return _Solved(weights, directions, known, LeftOut(errors, covariances))


def _noise_widths(left_out: LeftOut, noise: float) -> FloatArray:
    """Return each structure's noise variance [S] in units of the common one, from its leave-one-out errors."""
    expected = noise + np.diagonal(left_out.covariances, axis1=1, axis2=2)
    squares = np.sum(left_out.errors**2 / expected, axis=1)
    return np.asarray((DEGREES_OF_FREEDOM + squares) / (DEGREES_OF_FREEDOM + left_out.errors.shape[1]))


def _principal(design: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return left vectors [R, r], squared singular values [r] and right vectors [F, r] of a design [R, F]."""
    if design.shape[0] <= design.shape[1]:
        variances, left = np.linalg.eigh(design @ design.T)
        kept = variances > KEPT * max(variances[-1], 1e-300)
        variances, left = variances[kept], left[:, kept]
        return left, variances, design.T @ left / np.sqrt(variances)
    variances, right = np.linalg.eigh(design.T @ design)
    kept = variances > KEPT * max(variances[-1], 1e-300)
    variances, right = variances[kept], right[:, kept]
    return design @ right / np.sqrt(variances), variances, right


def _maximise_evidence(features: FloatArray, labels: FloatArray, widths: FloatArray, groups: IntArray) -> FloatArray:
    from scipy.optimize import minimize

    few = slice(0, MAX_STRUCTURES_FOR_EVIDENCE)
    scales = np.sqrt(widths[few])[:, None]
    flat = (features[few] / scales[:, :, None]).reshape(-1, features.shape[2])
    kernels = np.stack([flat[:, groups == g] @ flat[:, groups == g].T for g in range(len(START) - 1)])
    bounds = [(value - REACH, value + REACH) for value in START]
    found = minimize(
        _cost,
        START,
        args=(kernels, (labels[few] / scales).ravel()),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 25},
    )
    return np.asarray(found.x)


def _cost(parameters: FloatArray, kernels: FloatArray, labels: FloatArray) -> tuple[float, FloatArray]:
    """Return the negative logarithm of evidence times prior, and its gradient."""
    amplitudes, noise = np.exp(2 * parameters[:-1]), np.exp(2 * parameters[-1]) + 1e-8
    covariance = np.tensordot(amplitudes, kernels, axes=1) + noise * np.eye(len(labels))
    factor = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(covariance)
    weights = inverse @ labels
    cost = 0.5 * labels @ weights + np.sum(np.log(np.diag(factor)))
    sensitivity = 0.5 * (inverse - np.outer(weights, weights))
    slopes = 2 * amplitudes * np.sum(kernels * sensitivity, axis=(1, 2))
    slopes = np.append(slopes, 2 * np.exp(2 * parameters[-1]) * np.trace(sensitivity))
    away = (parameters - START) / PRIOR_WIDTH
    return float(cost + 0.5 * away @ away), slopes + away / PRIOR_WIDTH
