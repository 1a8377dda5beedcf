"""Greedy D-optimal design: the batch that leaves a linear model on the features least uncertain."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from activeph.records import FloatArray, IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector
from activeph.select.distances import centred


class MaxDetSelector(ScoredSelector):
    """Picks the candidate of largest posterior variance, given the labelled set and the picks so far.

    That maximises the determinant of the batch's covariance greedily: a pivoted Cholesky factorisation of the kernel
    φ(x)·φ(x') conditioned on the labelled set (arXiv 2203.09410, section 4.2, MaxDet). Ties go to the lowest index.
    """

    kind: Literal["maxdet"] = "maxdet"
    noise: float = Field(default=1e-3, gt=0.0)
    """Standard deviation of label noise relative to the rms length of the pool's features (dimensionless)."""

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        points, centres = centred(pool.features, labelled)
        length = float(np.sqrt(np.mean(np.einsum("sd,sd->s", points, points)))) or 1.0
        return pivoted_cholesky(points @ (_posterior_root(centres / length, self.noise) / length), self.noise**2, n)


def pivoted_cholesky(points: FloatArray, noise: float, n: int) -> IntArray:
    """Return ``n`` distinct rows of ``points`` [S, D] in the order of greedy variance reduction; ``noise`` is σ².

    Double precision throughout: what decides late picks is a difference of the size of the noise.
    """
    variances = np.einsum("sd,sd->s", points, points)
    covariance = np.eye(points.shape[1])  # of the weights, given the picks so far
    picks: list[int] = []
    for _ in range(n):
        pick = int(np.argmax(variances >= variances.max() * (1 - 1e-9)))
        direction = covariance @ points[pick]
        spread = float(points[pick] @ direction) + noise
        covariance -= np.outer(direction, direction) / spread
        variances -= (points @ (direction / np.sqrt(spread))) ** 2
        picks.append(pick)
        np.maximum(variances, 0.0, out=variances)
        variances[picks] = -1.0
    return np.array(picks, dtype=np.int64)


def _posterior_root(centres: FeatureArray, noise: float) -> FloatArray:
    """Return a root [D, D] of the covariance (1 + Φᵀ Φ / σ²)⁻¹ of the weights given labels at ``centres`` [L, D]."""
    exact = centres.astype(np.float64)
    values, vectors = np.linalg.eigh(exact.T @ exact)
    return np.asarray(vectors / np.sqrt(1.0 + np.maximum(values, 0.0) / noise**2))
