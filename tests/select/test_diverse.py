"""MaxDist, MaxDet and k-means++ against their definitions written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from activeph.kinds import load_kind
from activeph.records import Prediction
from activeph.select.kmeanspp import KMeansPlusPlusSelector


def choose(kind: str, features: np.ndarray, labelled: np.ndarray, n: int, seed: int = 0) -> list[int]:
    prediction = Prediction(np.zeros((1, len(features), 1)), features, np.ones(1))
    selector = load_kind("selectors", kind)()
    return selector.select(prediction, labelled, n, np.random.default_rng(seed)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_maxdist_equals_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, labelled = rng.normal(size=(300, 4)), rng.normal(size=(6, 4))
    expected: list[int] = []
    for _ in range(30):
        expected.append(int(cdist(features, np.vstack([labelled, features[expected]])).min(axis=1).argmax()))
    assert choose("maxdist", features, labelled, 30) == expected


@pytest.mark.parametrize("n_labelled", [0, 3, 12])
@pytest.mark.parametrize("seed", range(3))
def test_maxdet_takes_the_largest_posterior_variance(seed: int, n_labelled: int) -> None:
    """Gaussian process with the linear kernel, conditioned in kernel space in double precision."""
    rng = np.random.default_rng(seed)
    features, labelled = rng.normal(size=(200, 6)) * [4, 2, 1, 1, 0.5, 0.3], rng.normal(size=(n_labelled, 6))
    shifted, known = features - features.mean(axis=0), labelled - features.mean(axis=0)
    noise = (1e-3) ** 2 * np.mean(np.sum(shifted**2, axis=1))
    expected: list[int] = []
    for _ in range(9):
        given = np.vstack([known, shifted[expected]])
        cross = shifted @ given.T
        kernel = given @ given.T + noise * np.eye(len(given))
        variance = np.sum(shifted**2, axis=1) - np.sum(cross * np.linalg.solve(kernel, cross.T).T, axis=1)
        expected.append(int(np.argmax(np.where(np.isin(np.arange(200), expected), -1, variance))))
    assert choose("maxdet", features, labelled, 9) == expected


def test_kmeanspp_draws_by_squared_distance() -> None:
    pool = Prediction(np.zeros((1, 4, 1)), np.array([[0.0], [1.0], [2.0], [3.0]]), np.ones(1))
    rng = np.random.default_rng(0)
    firsts = [KMeansPlusPlusSelector().select(pool, np.array([[0.0]]), 1, rng)[0] for _ in range(3000)]
    shares = np.bincount(firsts, minlength=4) / 3000
    assert shares == pytest.approx([0, 1 / 14, 4 / 14, 9 / 14], abs=0.03)


def test_noise_must_be_positive() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        load_kind("selectors", "maxdet")(noise=0.0)
