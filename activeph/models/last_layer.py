"""What one network's last layer alone can say of the network's errors: members of a prediction without more networks.

Both ways leave the trained network as it is, read its last-layer features φ (centred, with a constant beside them), and
add a linear function of them to its output: drawn from a posterior, or as heads trained on the likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from activeph.models.calibration import Recalibration, fit_recalibration, spread_out
from activeph.records import FloatArray

STEPS, RATE, START = 200, 0.02, 0.1  # of the heads: Adam's steps and step size, spread of the first heads
DECAY = 1e-3  # of the heads' weights
LEAST_VARIANCE = 1e-3  # of the heads, in squared standard deviations of the targets


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

    def recalibrated(self, features: FloatArray, errors: FloatArray) -> LastLayer:
        """Return the same with error bars that suit errors [H, P] of the network on features [H, 1 + F] held out."""
        if len(errors) == 0:
            return self
        left = errors - np.einsum("sf,fp->sp", features, self.heads.mean(axis=0))
        return LastLayer(self.heads, self.roots, fit_recalibration(left, self.expected(features)))


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
    return LastLayer(heads - heads.mean(axis=0), np.array(roots), _unchanged(errors.shape[1]))


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


def fit_heads(features: FloatArray, errors: FloatArray, n_heads: int, seed: int) -> LastLayer:
    """Return heads whose mean and variance make errors [S, P] of the network on its own labels likeliest.

    A shallow ensemble (M. Kellner, M. Ceriotti, arXiv:2402.16621) on a trunk that is trained before.
    """
    import torch

    rng = np.random.Generator(np.random.SFC64(seed))
    start = START * rng.normal(size=(n_heads, features.shape[1], errors.shape[1])) / np.sqrt(features.shape[1])
    heads = torch.tensor(start, requires_grad=True)
    inputs, truth = torch.from_numpy(features), torch.from_numpy(errors)
    optimiser = torch.optim.Adam([heads], lr=RATE)
    for _ in range(STEPS):
        outputs = torch.einsum("sf,kfp->ksp", inputs, heads)
        variances = outputs.var(dim=0) + LEAST_VARIANCE
        loss = torch.mean((truth - outputs.mean(dim=0)) ** 2 / variances + torch.log(variances)) / 2
        optimiser.zero_grad()
        torch.autograd.backward(loss + DECAY * torch.mean(torch.sum(heads**2, dim=1)))
        optimiser.step()
    found = heads.detach().numpy()
    roots = (found - found.mean(axis=0)).transpose(2, 1, 0) / np.sqrt(n_heads - 1)
    return LastLayer(found, roots, _unchanged(errors.shape[1]))


def _unchanged(n_targets: int) -> Recalibration:
    return Recalibration(np.zeros(n_targets), np.ones(n_targets))


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
