"""Gaussian-process regression that single odd labels do not spoil.

Kernel: amplitude² (1 + inner product), plus amplitude² times a squared exponential of the distance; noise is
Student's t, treated as normal noise whose variance each label has for itself (expectation maximisation; Lange, Little,
Taylor, J. Am. Stat. Assoc. 84, 881 (1989)). Hyperparameters maximise the evidence (Rasmussen, Williams, "Gaussian
Processes for Machine Learning", chapter 5); inputs and targets come scaled to unit variance.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray

DEGREES_OF_FREEDOM = 4.0  # of the noise: gross outliers lose their weight, normal noise hardly changes the fit
START = np.array([0.0, 0.0, 1.0, -1.0])  # logarithms: linear, smooth amplitude, length, noise
PRIOR_WIDTH = 3.0  # of the logarithms around the start, so that few labels cannot drive them away
ROUNDS = 3  # of hyperparameters and label weights in turn
MAX_LABELS_FOR_EVIDENCE = 200
N_WAVES = 256  # random cosines that stand for a draw from the smooth kernel


@dataclass(frozen=True, eq=False)
class Posterior:
    """One scalar function given labels: the mean, and one draw's deviation from it."""

    inputs: FloatArray  # [n, m]
    parameters: FloatArray  # [4] logarithms
    mean_weights: FloatArray  # [n]
    draw_weights: FloatArray  # [n]
    noise: FloatArray  # [n] variances
    residuals: FloatArray  # [n] leave-one-out errors: label minus what the others predict
    residual_deviations: FloatArray  # [n] standard deviations that the others expect of them, without noise
    seed: int  # of the draw

    def mean(self, inputs: FloatArray) -> FloatArray:
        """Return the posterior mean [S]."""
        return kernel(inputs, self.inputs, self.parameters) @ self.mean_weights

    def standard_deviation(self, inputs: FloatArray) -> FloatArray:
        """Return the posterior standard deviation [S], without noise."""
        across = kernel(inputs, self.inputs, self.parameters)
        prior = np.exp(2 * self.parameters[0]) * (1 + np.mean(inputs**2, axis=1)) + np.exp(2 * self.parameters[1])
        return np.asarray(np.sqrt(np.maximum(prior - np.sum((across @ self._inverse) * across, axis=1), 0)))

    @functools.cached_property
    def _inverse(self) -> FloatArray:
        return np.asarray(np.linalg.inv(kernel(self.inputs, self.inputs, self.parameters) + np.diag(self.noise)))

    def deviation(self, inputs: FloatArray) -> FloatArray:
        """Return what one draw from the posterior adds to the mean [S] (Matheron's rule, arXiv:2002.09309)."""
        correction = kernel(inputs, self.inputs, self.parameters) @ self.draw_weights
        return prior_draw(inputs, self.parameters, self.seed) - correction


def kernel(first: FloatArray, second: FloatArray, parameters: FloatArray) -> FloatArray:
    """Return the covariance [n1, n2] of inputs [n1, m] and [n2, m]."""
    linear, smooth = _parts(first, second, parameters)
    return linear + smooth


def fit_posterior(inputs: FloatArray, targets: FloatArray, seed: int, start: FloatArray = START) -> Posterior:
    """Return the posterior given inputs [n, m] and targets [n]; the mean does not depend on the seed."""
    parameters, widths = start, np.ones(len(targets))
    few = slice(0, MAX_LABELS_FOR_EVIDENCE)
    for _ in range(ROUNDS):
        parameters = _maximise_evidence(inputs[few], targets[few], widths[few], parameters)
        widths = _noise_widths(inputs, targets, parameters, widths)
    noise = np.exp(2 * parameters[3]) * widths
    inverse = np.linalg.inv(kernel(inputs, inputs, parameters) + np.diag(noise))
    mean_weights = inverse @ targets
    rng = np.random.Generator(np.random.SFC64(seed))
    drawn = prior_draw(inputs, parameters, seed) + np.sqrt(noise) * rng.normal(size=len(targets))
    variances = np.maximum(1 / np.diag(inverse) - noise, 0)
    return Posterior(
        inputs=inputs,
        parameters=parameters,
        mean_weights=mean_weights,
        draw_weights=inverse @ drawn,
        noise=noise,
        residuals=mean_weights / np.diag(inverse),
        residual_deviations=np.sqrt(variances),
        seed=seed,
    )


def prior_draw(inputs: FloatArray, parameters: FloatArray, seed: int) -> FloatArray:
    """Return a random function [S] with the kernel as covariance: a random plane plus random cosines."""
    rng = np.random.Generator(np.random.SFC64([seed, 1]))
    n_inputs = inputs.shape[1]
    level, plane = rng.normal(), rng.normal(size=n_inputs) / np.sqrt(n_inputs)
    waves = rng.normal(size=(n_inputs, N_WAVES)) / (np.exp(parameters[2]) * np.sqrt(n_inputs))
    heights = np.exp(parameters[1]) * np.sqrt(2 / N_WAVES) * rng.normal(size=N_WAVES)
    phases = rng.uniform(0, 2 * np.pi, size=N_WAVES)
    return np.asarray(np.exp(parameters[0]) * (level + inputs @ plane) + np.cos(inputs @ waves + phases) @ heights)


def _parts(first: FloatArray, second: FloatArray, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
    n_inputs = first.shape[1]
    inner = first @ second.T / n_inputs
    squares = np.sum(first**2, axis=1)[:, None] / n_inputs + np.sum(second**2, axis=1) / n_inputs - 2 * inner
    smooth = np.exp(2 * parameters[1] - 0.5 * np.maximum(squares, 0) * np.exp(-2 * parameters[2]))
    return np.exp(2 * parameters[0]) * (1 + inner), smooth


def _maximise_evidence(inputs: FloatArray, targets: FloatArray, widths: FloatArray, start: FloatArray) -> FloatArray:
    from scipy.optimize import minimize

    bounds = [(value - 8, value + 8) for value in START]
    found = minimize(
        _cost,
        start,
        args=(inputs, targets, widths),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 30},
    )
    return np.asarray(found.x)


def _cost(
    parameters: FloatArray, inputs: FloatArray, targets: FloatArray, widths: FloatArray
) -> tuple[float, FloatArray]:
    """Return the negative logarithm of evidence times prior, and its gradient."""
    linear, smooth = _parts(inputs, inputs, parameters)
    noise = np.exp(2 * parameters[3]) * widths + 1e-10
    covariance = linear + smooth + np.diag(noise)
    factor = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(covariance)
    weights = inverse @ targets
    cost = 0.5 * targets @ weights + np.sum(np.log(np.diag(factor)))
    sensitivity = 0.5 * (inverse - np.outer(weights, weights))  # d cost / d covariance
    distances = 4 * parameters[1] - 2 * np.log(np.maximum(smooth, 1e-300))  # squared, in units of the length
    slopes = np.array(
        [
            np.sum(sensitivity * 2 * linear),
            np.sum(sensitivity * 2 * smooth),
            np.sum(sensitivity * smooth * distances),
            np.sum(np.diag(sensitivity) * 2 * np.exp(2 * parameters[3]) * widths),
        ]
    )
    away = (parameters - START) / PRIOR_WIDTH
    return float(cost + 0.5 * away @ away), slopes + away / PRIOR_WIDTH


def _noise_widths(inputs: FloatArray, targets: FloatArray, parameters: FloatArray, widths: FloatArray) -> FloatArray:
    """Return each label's noise variance in units of the common one, from its leave-one-out error."""
    covariance = kernel(inputs, inputs, parameters)
    common = np.exp(2 * parameters[3])
    for _ in range(5):
        inverse = np.linalg.inv(covariance + np.diag(common * widths))
        precision = np.diag(inverse)
        errors = (inverse @ targets) / precision
        variances = common + np.maximum(1 / precision - common * widths, 0)
        widths = (DEGREES_OF_FREEDOM + errors**2 / variances) / (DEGREES_OF_FREEDOM + 1)
    return widths
