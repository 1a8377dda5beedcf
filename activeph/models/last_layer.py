"""What one network's last layer can say of the network's errors: members of a prediction without more networks.

Each member adds a linear function of the last layer's features φ (centred, with a constant beside them) to the
network's output: drawn from a posterior, or one of the heads that were trained with the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from activeph.models.calibration import LARGEST, Recalibration, fit_recalibration, spread_out, unchanged
from activeph.records import FloatArray

LEAST_ERRORS = 6  # of which the size of error bars is known: fewer are filled up with imagined ones


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Linear functions of features with a constant first [S, 1 + F], in standard deviations of the targets."""

    heads: FloatArray  # [K, 1 + F, P] what members add to the network
    roots: FloatArray  # [P, 1 + F, R]: the expected deviation is the norm of φ @ root
    recalibration: Recalibration

    def members(self, features: FloatArray) -> FloatArray:
        """Return what members add to the network's output [K, S, P], spread as recalibrated."""
        added = np.einsum("sf,kfp->ksp", features, self.heads)
        return np.asarray(added.mean(axis=0) + spread_out(added, self.recalibration.apply(self.expected(features))))

    def expected(self, features: FloatArray) -> FloatArray:
        """Return standard deviations [S, P] before recalibration."""
        return np.asarray(np.linalg.norm(np.einsum("sf,pfr->spr", features, self.roots), axis=2))

    def recalibrated(self, features: FloatArray, errors: FloatArray, trained: FloatArray) -> LastLayer:
        """Return the same with error bars that suit errors [H, P] of the network on features [H, 1 + F] held out.

        Few of them are filled up with imagined ones: as large as the layer expects, or as errors on labels that the
        network was ``trained`` on [S, P], enlarged by what held-out errors are larger in the median target. From few
        labels the layer alone can expect next to nothing.
        """
        if len(errors) == 0:
            return self
        from scipy.stats import norm

        left = errors - np.einsum("sf,fp->sp", features, self.heads.mean(axis=0))
        expected = self.expected(features)
        n = max(LEAST_ERRORS - len(errors), 0)
        usual = np.tile(np.median(expected, axis=0), (n, 1))
        seen, unseen = (np.sqrt(np.mean(part**2, axis=0)) + 1e-12 for part in (trained, left))
        larger = np.clip(np.exp(np.median(np.log(unseen / seen))), 1, LARGEST)
        imagined = norm.ppf((np.arange(n) + 0.5) / max(n, 1))[:, None] * np.maximum(usual, larger * seen)
        fitted = fit_recalibration(np.concatenate([left, imagined]), np.concatenate([expected, usual]))
        return LastLayer(self.heads, self.roots, fitted)


def with_constant(features: FloatArray) -> FloatArray:
    """Return features [S, F] with a column of ones before them."""
    return np.concatenate([np.ones((len(features), 1)), features], axis=1)


def fit_posterior_layer(features: FloatArray, errors: FloatArray, n_draws: int, seed: int) -> LastLayer:
    """Return draws from the posterior of the last layer given errors [S, P] of the network on its own labels.

    Normal prior and noise, whose variances maximise the evidence (C. M. Bishop, "Pattern Recognition and Machine
    Learning", section 3.5); the mean stays the network's (F. Bigi et al., arXiv:2403.02251).
    """
    values, vectors = np.linalg.eigh(features.T @ features)
    values = np.maximum(values, 0)
    rng = np.random.Generator(np.random.SFC64(seed))
    roots = []
    for column in range(errors.shape[1]):
        prior, noise = _evidence(values, (features @ vectors).T @ errors[:, column], errors[:, column])
        roots.append(vectors / np.sqrt(1 / prior + values / noise))
    drawn = rng.normal(size=(n_draws, errors.shape[1], features.shape[1]))
    heads = np.einsum("pfr,kpr->kfp", np.array(roots), drawn)
    return LastLayer(heads - heads.mean(axis=0), np.array(roots), unchanged(errors.shape[1]))


def _evidence(values: FloatArray, projected: FloatArray, errors: FloatArray) -> tuple[float, float]:
    """Return variances of prior and noise from eigenvalues of the features' Gram matrix, by fixed-point iteration."""
    prior, noise, total = 1.0, max(float(np.mean(errors**2)), 1e-8), float(np.sum(errors**2))
    for _ in range(50):
        precisions = 1 / prior + values / noise
        weights = projected / noise / precisions
        effective = float(np.sum(values / noise / precisions))
        misfit = total - 2 * float(weights @ projected) + float(np.sum(values * weights**2))
        prior = float(np.clip(np.sum(weights**2) / max(effective, 1e-6), 1e-6, 1e4))
        noise = float(np.clip(misfit / max(len(errors) - effective, 1.0), 1e-6, 1e4))
    return prior, noise


def heads_layer(heads: FloatArray) -> LastLayer:
    """Return the layer of heads [K, 1 + F, P]; what they have in common is the network's already."""
    apart = heads - heads.mean(axis=0)
    roots = apart.transpose(2, 1, 0) / np.sqrt(len(heads) - 1)
    return LastLayer(apart, roots, unchanged(heads.shape[2]))


def write_last_layer(layer: LastLayer) -> dict[str, Any]:
    """Return the arrays of a last layer by name."""
    recalibration = layer.recalibration
    arrays = (layer.heads, layer.roots, recalibration.floors, recalibration.factors)
    return dict(zip(NAMES, arrays, strict=True))


def read_last_layer(arrays: Sequence[FloatArray]) -> LastLayer:
    """Return a last layer from its arrays in the order of :data:`NAMES`."""
    heads, roots, floors, factors = arrays
    return LastLayer(heads, roots, Recalibration(floors, factors))


NAMES = ("heads", "roots", "floors", "factors")
