"""Δ-learning: a model of what a cheap code leaves to be explained of band gap and band edges.

target = a (value of the cheap code - its mean) + model, with one slope per target by least squares over the labels (R.
Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015), there with a = 1).
Electronic targets alone: energies and stresses are learned from the labels' forces, which say more.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from activeph.models.around import Around
from activeph.models.base import Predictor, read_arrays
from activeph.models.calibration import take
from activeph.models.scaling import fit_scaling
from activeph.records import Block, Dataset, FloatArray, Prediction, System
from activeph.targets import ELECTRONIC

FEWEST = 4  # labels with a value of the cheap code that a slope is taken from


@dataclass(frozen=True)
class WithLowFidelity(Around):
    """A model that learns electronic targets as corrections to those of a cheap code, and all others as ever.

    Where a block brings no such values (pools that are only compared), the cheap code's mean stands for them: features
    and the members' spread are those of the correction, which is all that labels can still improve.
    """

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member on what the cheap code leaves; see :class:`activeph.models.base.Model`.

        Labels for which the cheap code gave nothing are left out, unless too few have it.
        """
        scale = fit_scaling(dataset).scale  # refuses what cannot be learned from
        lines = fit_lines(dataset)
        low = _low_fidelity(dataset.blocks)
        known = np.isfinite(low).all(axis=1)
        rows = np.flatnonzero(known) if lines.slopes.any() else np.arange(len(low))
        corrected = take(replace(dataset, targets=dataset.targets - lines.shift(low, dataset.target_names)), rows)
        state = self.model.fit(corrected, systems, seed, self.inner(warm) if warm is not None else None)
        buffer = io.BytesIO()
        names, inner = np.array(dataset.target_names), np.frombuffer(state, dtype=np.uint8)
        np.savez(buffer, model=inner, names=names, scale=scale, **{k: getattr(lines, k) for k in LINES})
        return buffer.getvalue()

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> Predictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        records = [_read(state) for state in states]
        inner = self.model.load([record["model"].tobytes() for record in records], systems)
        lines = Lines(*(records[0][name] for name in LINES))
        return CorrectedPredictor(inner, lines, [str(name) for name in records[0]["names"]], records[0]["scale"])


@dataclass(frozen=True, eq=False)
class Lines:
    """What the values of the cheap code say of each electronic target, in the order of ``ELECTRONIC``."""

    slopes: FloatArray  # [3] 0 where the cheap code says nothing of the target, or it is none
    centres: FloatArray  # [3] eV, mean of the cheap code's values
    spreads: FloatArray  # [3] eV, their standard deviation

    def shift(self, low: FloatArray, names: Sequence[str]) -> FloatArray:
        """Return what is added [S, P] in eV to a model of corrections, 0 where the cheap code gave nothing."""
        shifts = self.slopes * np.where(np.isfinite(low), low - self.centres, 0)
        return _columns(shifts, names)


LINES = tuple(Lines.__dataclass_fields__)


class CorrectedPredictor:
    """A predictor of corrections with the cheap code's values added."""

    def __init__(self, inner: Predictor, lines: Lines, names: Sequence[str], scale: FloatArray) -> None:
        self._inner, self._lines, self._names, self._scale = inner, lines, names, scale

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block.

        Where the cheap code was asked and gave nothing, members are spread by what it would have told.
        """
        found = self._inner.predict(replace(block, low_fidelity=None))
        if block.low_fidelity is None:
            return replace(found, scale=self._scale)
        lines, missing = self._lines, ~np.isfinite(block.low_fidelity)
        unknown = _columns(np.where(missing, np.abs(lines.slopes) * lines.spreads, 0), self._names)  # [B, P]
        mean, std = found.mean, found.std
        known = np.divide(np.sqrt(std**2 + unknown**2), std, out=np.ones_like(std), where=std > 0)
        members = mean + (found.members - mean) * known + lines.shift(block.low_fidelity, self._names)
        return replace(found, members=members, scale=self._scale)


def fit_lines(dataset: Dataset) -> Lines:
    """Return slopes by least squares, 0 where left-out labels are not predicted better than by the mean."""
    low = _low_fidelity(dataset.blocks)
    slopes, centres, spreads = np.zeros(3), np.zeros(3), np.zeros(3)
    for column, name in enumerate(ELECTRONIC):
        rows = np.isfinite(low[:, column])
        if name not in dataset.target_names or rows.sum() < FEWEST:
            continue
        x, y = low[rows, column], dataset.targets[rows, dataset.target_names.index(name)]
        centres[column], spreads[column] = x.mean(), x.std()
        slopes[column] = _slope(x - x.mean(), y - y.mean())
    return Lines(slopes, centres, spreads)


def _slope(x: FloatArray, y: FloatArray) -> float:
    """Return the slope of centred values, 0 where errors left out one by one say that the mean is as good."""
    square = float(x @ x)
    if square <= 1e-12 * len(x):  # eV²: the cheap code sees no difference
        return 0.0
    slope = float(x @ y) / square
    share = 1 / len(x)
    left_out = (y - slope * x) / (1 - share - x**2 / square)
    return slope if left_out @ left_out < np.sum((y / (1 - share)) ** 2) else 0.0


def _columns(values: FloatArray, names: Sequence[str]) -> FloatArray:
    """Return values [S, 3] of electronic targets as columns [S, P] of all, 0 for the others."""
    result = np.zeros((len(values), len(names)))
    for column, name in enumerate(names):
        if name in ELECTRONIC:
            result[:, column] = values[:, ELECTRONIC.index(name)]
    return result


def _low_fidelity(blocks: Sequence[Block]) -> FloatArray:
    """Return the cheap code's values [S, 3], NaN where there are none."""
    blank = [np.full((len(block), 3), np.nan) if (v := block.low_fidelity) is None else v for block in blocks]
    return np.concatenate(blank)


def _read(state: bytes) -> dict[str, FloatArray]:
    return read_arrays(state, "model", "names", "scale", *LINES)
