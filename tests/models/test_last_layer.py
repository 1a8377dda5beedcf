"""Distributions of a last layer: against closed formulas, and on errors they must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.models.last_layer import (
    NAMES,
    LastLayer,
    fit_posterior_layer,
    heads_layer,
    read_last_layer,
    with_constant,
    write_last_layer,
)
from activeph.records import FloatArray

Fit = Callable[[FloatArray, FloatArray, int, int], LastLayer]


def make(n: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Errors are linear in one feature, with noise: ten features, two targets."""
    rng = np.random.default_rng(seed)
    features = with_constant(rng.normal(size=(n, 10)))
    errors = 0.5 * features[:, [1, 2]] + 0.2 * rng.normal(size=(n, 2))
    return features, errors


def test_posterior_is_wider_where_no_label_was() -> None:
    features, errors = make(60)
    layer = fit_posterior_layer(features, errors, 8, 0)
    assert np.all(layer.expected(5 * features) > 2 * layer.expected(features))


def test_posterior_variance_is_that_of_bayesian_regression() -> None:
    features, errors = make(400)
    layer = fit_posterior_layer(features, errors, 8, 0)
    covariance = layer.roots[0] @ layer.roots[0].T
    np.testing.assert_allclose(covariance, 0.04 * np.linalg.inv(features.T @ features), atol=2e-5)


def test_posterior_leaves_the_mean_to_the_network() -> None:
    features, errors = make(60)
    np.testing.assert_allclose(
        fit_posterior_layer(features, errors, 8, 0).members(features).mean(axis=0), 0, atol=1e-12
    )


def random_heads(features: FloatArray, errors: FloatArray, n: int, seed: int) -> LastLayer:
    """Heads as a training might leave them."""
    return heads_layer(np.random.default_rng(seed).normal(size=(n, features.shape[1], errors.shape[1])))


both = pytest.mark.parametrize("fit", [fit_posterior_layer, random_heads])


def test_heads_spread_around_the_network() -> None:
    features, errors = make(40)
    layer = random_heads(features, errors, 12, 0)
    members = layer.members(features)
    np.testing.assert_allclose(members.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(members.std(axis=0, ddof=1), layer.expected(features))


@both
def test_held_out_errors_set_the_size(fit: Fit) -> None:
    features, errors = make(60)
    fresh, truth = make(300, 1)
    layer = fit(features, errors, 6, 0).recalibrated(fresh[:100], 4 * truth[:100], errors)
    members = layer.members(fresh[100:])
    left = 4 * truth[100:] - members.mean(axis=0)
    assert np.mean(np.abs(left) < members.std(axis=0, ddof=1)) == pytest.approx(0.68, abs=0.12)


@both
def test_same_seed_same_layer_and_arrays_bring_it_back(fit: Fit) -> None:
    features, errors = make(30)
    one, other = fit(features, errors, 5, 3), fit(features, errors, 5, 3)
    arrays = write_last_layer(one)
    again = read_last_layer([arrays[name] for name in NAMES])
    assert np.array_equal(one.members(features), other.members(features))
    assert np.array_equal(one.members(features), again.members(features))


@both
def test_errors_of_nothing(fit: Fit) -> None:
    features, _ = make(5)
    assert np.all(np.isfinite(fit(features, np.zeros((5, 2)), 5, 0).members(features)))


@both
@pytest.mark.parametrize("error", [0.01, 100.0])
def test_one_held_out_label_hardly_says_how_large_errors_are(fit: Fit, error: float) -> None:
    features, errors = make(60)
    layer = fit(features, errors, 8, 0)
    usual = np.maximum(np.median(layer.expected(features), axis=0), np.sqrt(np.mean(errors**2, axis=0)))
    layer = layer.recalibrated(features[:1], error * usual[None], errors)
    ratios = np.median(layer.recalibration.apply(layer.expected(features)), axis=0) / usual
    assert np.all((ratios > 0.4) & (ratios < 10))


def test_a_layer_that_expects_nothing_of_few_labels_is_not_believed() -> None:
    rng = np.random.default_rng(2)
    features, errors = with_constant(rng.normal(size=(10, 60))), 0.3 * rng.normal(size=(10, 2))
    layer = fit_posterior_layer(features[:9], errors[:9], 8, 0)
    layer = replace(layer, roots=1e-3 * layer.roots).recalibrated(features[9:], errors[9:], errors[:9])
    fresh = with_constant(rng.normal(size=(50, 60)))
    assert np.all(np.median(layer.recalibration.apply(layer.expected(fresh)), axis=0) > 0.15)
