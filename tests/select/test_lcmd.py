"""LCMD against its definition written out plainly, and against the batches one can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from activeph.records import Prediction
from activeph.select.lcmd import LcmdSelector


def choose(features: np.ndarray, labelled: np.ndarray, n: int) -> list[int]:
    prediction = Prediction(np.zeros((1, len(features), 1)), features, np.ones(1))
    return LcmdSelector().select(prediction, labelled, n, np.random.default_rng(0)).tolist()


def plain_lcmd(features: np.ndarray, labelled: np.ndarray, n: int) -> list[int]:
    """The definition, in double precision, everything recomputed at every pick."""
    picks: list[int] = []
    for _ in range(n):
        centres = np.vstack([labelled, features[picks]])
        squared = cdist(features, centres, "sqeuclidean")
        owners, distances = squared.argmin(axis=1), squared.min(axis=1)
        distances[picks] = 0.0
        weights = np.bincount(owners, distances, minlength=len(centres))
        picks.append(int(np.argmax(np.where(owners == weights.argmax(), distances, -1.0))))
    return picks


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_equals_the_definition(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(400, 5)) * [5, 1, 1, 0.3, 0.1] + offset
    labelled = rng.normal(size=(12, 5)) + offset
    assert choose(features, labelled, 40) == plain_lcmd(features, labelled, 40)


def test_heaviest_cluster_first_then_its_furthest_member() -> None:
    labelled = np.array([[0.0], [100.0]])
    features = np.array([[1.0], [3.0], [2.0], [96.0]])  # weights 14 and 16
    assert choose(features, labelled, 3) == [3, 1, 0]  # after the second pick 1.0 and 2.0 weigh 1 each: first centre


def test_first_pick_without_labels_is_the_most_central() -> None:
    assert choose(np.array([[0.0], [9.0], [4.0], [5.5]]), np.empty((0, 1)), 1) == [2]


def test_batch_covers_every_cluster_where_the_largest_norm_would_not() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(10, 8)) * 20
    features = np.repeat(centres, 50, axis=0) + rng.normal(size=(500, 8))
    assert set(np.array(choose(features, centres[:1], 9)) // 50) == set(range(1, 10))


def test_huge_and_tiny_features_do_not_overflow() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    expected = choose(features, features[:2], 9)
    assert choose(features * 1e30, features[:2] * 1e30, 9) == expected
    assert choose(features * 1e-30, features[:2] * 1e-30, 9) == expected
