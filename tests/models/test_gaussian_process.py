"""The regression against closed formulas and against data it must recover."""

from __future__ import annotations

import numpy as np
import pytest

from activeph.models import gaussian_process
from activeph.models.gaussian_process import fit_posterior
from activeph.models.kernel import geometry_of, kernel, prior_draw


def test_gradient_of_the_evidence() -> None:
    rng = np.random.default_rng(0)
    inputs, targets, widths = rng.normal(size=(12, 4)), rng.normal(size=12), rng.uniform(0.5, 2, size=12)
    geometry = geometry_of(inputs, inputs, (3, 1))
    point = np.array([0.3, -0.2, 0.4, -1.5, -0.9, 0.7, -0.8])
    _, slopes = gaussian_process._cost(point, geometry, targets, widths)
    for axis in range(7):
        step = 1e-5 * np.eye(7)[axis]
        ahead, behind = (gaussian_process._cost(point + sign * step, geometry, targets, widths)[0] for sign in (1, -1))
        assert slopes[axis] == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-6)


def test_a_line_is_learned_from_few_labels() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(20, 5))
    slope = np.array([1.0, -0.5, 0.0, 0.3, 0.2])
    posterior = fit_posterior(inputs, inputs @ slope, 0)
    fresh = rng.normal(size=(50, 5))
    assert np.abs(posterior.mean(fresh) - fresh @ slope).max() < 0.05


def test_gross_outliers_hardly_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    inputs, fresh = rng.normal(size=(60, 3)), rng.normal(size=(200, 3))
    spoiled = inputs[:, 0] + inputs[:, 1] + 0.1 * rng.normal(size=60)
    spoiled[[3, 17]] -= 8.0
    truth = fresh[:, 0] + fresh[:, 1]
    error = np.abs(fit_posterior(inputs, spoiled, 0).mean(fresh) - truth).mean()
    monkeypatch.setattr(gaussian_process, "DEGREES_OF_FREEDOM", 1e9)
    error_with_normal_noise = np.abs(fit_posterior(inputs, spoiled, 0).mean(fresh) - truth).mean()
    assert error < 0.1
    assert error < error_with_normal_noise / 3


def test_residuals_of_tiny_sets_are_leave_one_out_errors() -> None:
    rng = np.random.default_rng(3)
    inputs, targets = rng.normal(size=(10, 2)), rng.normal(size=10)
    posterior = fit_posterior(inputs, targets, 0)
    noise = (
        targets - kernel(inputs, inputs, (2,), posterior.parameters) @ posterior.mean_weights
    )  # = noise variances * weights
    variances = noise / posterior.mean_weights
    for left in range(10):
        rest = np.arange(10) != left
        covariance = kernel(inputs[rest], inputs[rest], (2,), posterior.parameters) + np.diag(variances[rest])
        across = kernel(inputs[[left]], inputs[rest], (2,), posterior.parameters)
        predicted = across @ np.linalg.solve(covariance, targets[rest])
        assert posterior.residuals[left] == pytest.approx(targets[left] - predicted[0], rel=1e-6)


def test_prior_draws_have_the_kernel_as_covariance() -> None:
    inputs = np.random.default_rng(4).normal(size=(4, 3))
    parameters = np.array([-0.2, 0.1, 0.3, -1.0])
    draws = np.array([prior_draw(inputs, (3,), parameters, seed) for seed in range(4000)])
    np.testing.assert_allclose(draws.T @ draws / len(draws), kernel(inputs, inputs, (3,), parameters), atol=0.12)


def test_posterior_draws_have_the_posterior_variance() -> None:
    rng = np.random.default_rng(5)
    inputs, fresh = rng.normal(size=(15, 2)), rng.normal(size=(6, 2)) * 2
    targets = inputs[:, 0] + 0.3 * rng.normal(size=15)
    posteriors = [fit_posterior(inputs, targets, seed) for seed in range(100)]
    drawn = np.var([posterior.deviation(fresh) for posterior in posteriors], axis=0)
    one = posteriors[0]
    across = kernel(fresh, inputs, (2,), one.parameters)
    noise = (targets - kernel(inputs, inputs, (2,), one.parameters) @ one.mean_weights) / one.mean_weights
    covariance = kernel(inputs, inputs, (2,), one.parameters) + np.diag(noise)
    expected = np.diag(kernel(fresh, fresh, (2,), one.parameters) - across @ np.linalg.solve(covariance, across.T))
    np.testing.assert_allclose(drawn, expected, rtol=0.6)


def test_residuals_of_larger_sets_are_as_large_as_fresh_errors() -> None:
    rng = np.random.default_rng(6)
    inputs, fresh = rng.normal(size=(40, 8)), rng.normal(size=(400, 8))
    slope = rng.normal(size=8)
    noise = 0.3 * rng.normal(size=40)
    posterior = fit_posterior(inputs, inputs @ slope + noise, 0)
    errors = np.sqrt(np.mean((posterior.mean(fresh) - fresh @ slope) ** 2) + 0.09)
    assert np.sqrt(np.mean(posterior.residuals**2)) == pytest.approx(errors, rel=0.35)


def test_bars_of_tiny_sets_follow_errors_of_fits_that_never_saw_the_label() -> None:
    larger, right = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        inputs, fresh, slope = rng.normal(size=(10, 20)), rng.normal(size=(200, 20)), rng.normal(size=20) / 4.5
        posterior = fit_posterior(inputs, inputs @ slope + 0.3 * rng.normal(size=10), 0)
        wrong = posterior.mean(fresh) - fresh @ slope - 0.3 * rng.normal(size=200)
        found, closed, true = (np.sqrt(np.mean(e**2)) for e in (posterior.errors(), posterior.residuals, wrong))
        larger.append(np.log(found / closed))
        right.append(np.log(found / true))
    assert np.mean(larger) > 0.05
    assert np.mean(right) == pytest.approx(0, abs=0.25)


def test_a_group_that_says_nothing_is_ignored() -> None:
    rng = np.random.default_rng(7)
    useful, useless = rng.normal(size=(40, 3)), rng.normal(size=(40, 6))
    targets = useful @ np.array([1.0, -1.0, 0.5]) + 0.02 * rng.normal(size=40)
    posterior = fit_posterior(np.concatenate([useful, useless], axis=1), targets, 0, (3, 6))
    fresh = rng.normal(size=(100, 9))
    assert np.abs(posterior.mean(fresh) - fresh[:, :3] @ np.array([1.0, -1.0, 0.5])).mean() < 0.05
    assert np.all(np.isfinite(posterior.standard_deviation(fresh)))
    assert np.all(np.isfinite(posterior.deviation(fresh)))


def test_a_second_group_is_used_where_it_helps() -> None:
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(40, 3)), rng.normal(size=(40, 4))
    targets = second @ np.array([1.0, 0.5, -1.0, 0.3])
    posterior = fit_posterior(np.concatenate([first, second], axis=1), targets, 0, (3, 4))
    fresh = rng.normal(size=(100, 7))
    assert np.abs(posterior.mean(fresh) - fresh[:, 3:] @ np.array([1.0, 0.5, -1.0, 0.3])).mean() < 0.1


def test_labels_that_are_all_but_equal_are_no_fault() -> None:
    covariance = np.ones((4, 4)) - 1e-14 * np.arange(16).reshape(4, 4).T @ np.eye(4)
    covariance = 0.5 * (covariance + covariance.T)
    factor = gaussian_process._cholesky(covariance)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-5)
