"""Typical candidates of clusters without labels, on pools where one can see what they are."""

from __future__ import annotations

import numpy as np
import pytest

from activeph.records import Prediction
from activeph.select import typiclust
from activeph.select.typiclust import TypiclustSelector, k_means

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def choose(features: np.ndarray, labelled: np.ndarray, n: int) -> np.ndarray:
    prediction = Prediction(np.zeros((1, len(features), 1)), features, np.ones(1))
    return TypiclustSelector().select(prediction, labelled, n, np.random.default_rng(0))


def heaps(sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features in heaps around the centres, and the heap of each."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return CENTRES[owners] + np.random.default_rng(seed).normal(scale=0.5, size=(len(owners), 2)), owners


@pytest.mark.parametrize("seed", range(5))
def test_every_heap_without_a_label_gives_one(seed: int) -> None:
    features, owners = heaps((40, 30, 50, 20), seed)
    chosen = choose(features, CENTRES[[1]] + 0.3, 3)
    assert sorted(owners[chosen]) == [0, 2, 3]
    assert np.abs(features[chosen] - CENTRES[owners[chosen]]).max() < 0.6  # near the middle of its heap


def test_largest_heap_first() -> None:
    features, owners = heaps((20, 60, 40, 30))
    assert owners[choose(features, np.empty((0, 2)), 4)].tolist() == [1, 2, 3, 0]


def test_few_strangers_are_passed_over_where_heaps_wait() -> None:
    """What LCMD takes first, the candidates unlike all others, is not what the pool is made of."""
    features, owners = heaps((50, 50, 50, 50))
    strangers = np.array([[60.0, 60.0], [-60.0, 60.0]])
    labelled = np.array([[59.0, 60.0], [-59.0, 60.0]])
    chosen = choose(np.concatenate([features, strangers]), labelled, 4)
    assert sorted(owners[chosen]) == [0, 1, 2, 3]


def test_large_pools_are_clustered_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    features, owners = heaps((400, 300, 500, 200))
    monkeypatch.setattr(typiclust, "LARGEST_SAMPLE", 100)
    assert sorted(owners[choose(features, np.empty((0, 2)), 4)]) == [0, 1, 2, 3]
    assert len(set(choose(features, np.empty((0, 2)), 200).tolist())) == 200


def test_k_means_ends_where_every_centre_is_its_clusters_mean() -> None:
    features, owners = heaps((40, 30, 50, 20))
    points = features.astype(np.float32)
    centres = k_means(points, points[[0, 40, 70, 120]])
    for heap in range(4):
        np.testing.assert_allclose(centres[heap], features[owners == heap].mean(axis=0), atol=1e-5)
