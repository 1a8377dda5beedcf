"""What every model does to its data: scaling fitted on the training set alone, and features of equal width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.records import Block, Dataset, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Scaling:
    """Targets without the part linear in composition, in units of their standard deviation on the training set."""

    elements: IntArray  # [Z] atomic numbers
    baseline: FloatArray  # [Z, P] contribution of each element's share
    scale: FloatArray  # [P] standard deviation of what the composition leaves

    def forward(self, dataset: Dataset) -> FloatArray:
        """Return the scaled targets [S, P] of a dataset."""
        return np.asarray((dataset.targets - self.offsets(dataset)) / self.scale)

    def backward(self, block: Block, scaled: FloatArray) -> FloatArray:
        """Return targets in their units; ``scaled`` is [..., B, P]."""
        return np.asarray(scaled * self.scale + self.offset(block))

    def offset(self, block: Block) -> FloatArray:
        """Return what composition alone predicts [B, P]."""
        return np.asarray(composition(block.species, self.elements) @ self.baseline)

    def offsets(self, dataset: Dataset) -> FloatArray:
        """Return what composition alone predicts of a dataset [S, P]."""
        return np.concatenate([self.offset(block) for block in dataset.blocks])

    def first(self, n: int) -> Scaling:
        """Return the scaling of the first ``n`` targets."""
        return Scaling(self.elements, self.baseline[:, :n], self.scale[:n])


def fit_scaling(dataset: Dataset) -> Scaling:
    """Return the scaling of a training set. Raises InputError where it is empty or not finite."""
    if len(dataset) == 0:
        raise InputError("a model must be trained on labels but got none; label some first.")
    if not np.all(np.isfinite(dataset.targets)):
        raise InputError("targets must be finite but got nan or inf; remove these labels.")
    elements = np.unique(np.concatenate([block.species.ravel() for block in dataset.blocks]))
    shares = np.concatenate([composition(block.species, elements) for block in dataset.blocks])
    baseline = np.linalg.pinv(shares, rcond=1e-6) @ dataset.targets
    deviation = np.std(dataset.targets - shares @ baseline, axis=0)
    floor = 1e-9 * (1 + np.abs(dataset.targets).max(axis=0))  # constant targets and single labels are left unscaled
    return Scaling(elements, baseline, np.where(deviation > floor, deviation, 1.0))


def composition(species: IntArray, elements: IntArray) -> FloatArray:
    """Return the share of each element [B, Z] in configurations [B, N]."""
    return np.asarray((species[:, :, None] == elements).mean(axis=1, dtype=np.float64))


def sketch(features: Sequence[NDArray[np.floating[Any]]], width: int) -> NDArray[np.float32]:
    """Return joined members' features [S, ΣF] projected to ``width`` columns by a matrix that never changes.

    Random projections keep distances (Johnson, Lindenstrauss); narrower features are returned as they are.
    """
    joined = np.concatenate(features, axis=1)
    if joined.shape[1] <= width:
        return joined.astype(np.float32)
    projection = np.random.Generator(np.random.SFC64(joined.shape[1])).normal(size=(joined.shape[1], width))
    return np.asarray(joined @ (projection / np.sqrt(width)), dtype=np.float32)
