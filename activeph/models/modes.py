"""Thermal properties as functions of how far each normal mode is out: the baseline that every network must beat."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.models.calibration import Recalibration, fit_recalibration, spread_out
from activeph.models.gaussian_process import Posterior, fit_posterior
from activeph.models.invariants import invariants_of
from activeph.models.scaling import Scaling, fit_scaling
from activeph.records import Block, Dataset, FloatArray, Prediction, System
from activeph.section import Section
from activeph.seeds import derive_seed, generator

POSTERIOR_ARRAYS = (
    "parameters",
    "mean_weights",
    "draw_weights",
    "noise",
    "residuals",
    "residual_deviations",
    "seed",
)


class ModesModel(Section):
    """Bayesian regression on symmetry-invariant polynomials of the normal coordinates of each system.

    Needs force constants. Fits in a fraction of a second; a member is the exact posterior mean with one posterior
    draw of its error. Systems share nothing but the composition's linear part.
    """

    kind: Literal["modes"] = "modes"
    members: int = Field(5, ge=1)
    """Posterior draws; their spread is the uncertainty."""
    features: int = Field(64, ge=1)
    """Width of the sketched features that selectors compare."""

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Return one member's state; ``warm`` is not needed, the fit is exact. Raises InputError without modes."""
        for block in dataset.blocks:
            if block.system not in systems:
                raise InputError(unknown_system(block.system, systems))
        return write_fit(fit_modes(dataset, systems, seed))

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> ModesPredictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        if not states:
            raise InputError("an ensemble must have at least one member but got none; train it first.")
        return ModesPredictor([read_fit(state) for state in states], systems, self.features)


@dataclass(frozen=True, eq=False)
class SystemFit:
    """The regressions of one system: inputs are scaled invariants, outputs scaled targets without their mean."""

    centre: FloatArray  # [m]
    spread: FloatArray  # [m]
    mean: FloatArray  # [P]
    deviation: FloatArray  # [P]
    posteriors: tuple[Posterior, ...]  # P
    recalibration: Recalibration  # of scaled outputs

    def inputs(self, invariants: FloatArray) -> FloatArray:
        """Return what the regressions read [B, m]."""
        return np.asarray((invariants - self.centre) / self.spread)


@dataclass(frozen=True, eq=False)
class ModesFit:
    """One member: the regressions of every system that had labels."""

    scaling: Scaling
    systems: dict[str, SystemFit]
    seed: int

    def left_over(self, dataset: Dataset) -> FloatArray:
        """Return the part of the training targets [S, P] that the modes of all other labels do not predict."""
        parts = []
        start = 0
        for block in dataset.blocks:
            fit = self.systems.get(block.system)
            rows = slice(start, start + len(block))
            if fit is None:
                parts.append(dataset.targets[rows])
            else:
                errors = np.stack([posterior.residuals for posterior in fit.posteriors], axis=1)
                parts.append(errors * fit.deviation * self.scaling.scale)
            start += len(block)
        return np.concatenate(parts)


def fit_modes(dataset: Dataset, systems: Mapping[str, System], seed: int) -> ModesFit:
    """Fit those systems of a dataset that are among ``systems``. Raises InputError where one has no force constants."""
    scaling = fit_scaling(dataset)
    scaled = scaling.forward(dataset)
    fits: dict[str, SystemFit] = {}
    start = 0
    for block in dataset.blocks:
        targets = scaled[start : start + len(block)]
        start += len(block)
        if block.system not in systems:
            continue
        fits[block.system] = _fit_system(invariants_of(systems[block.system]).evaluate(block), targets, seed)
    return ModesFit(scaling, fits, seed)


def _fit_system(invariants: FloatArray, targets: FloatArray, seed: int) -> SystemFit:
    centre, spread = invariants.mean(axis=0), _spread(invariants)
    mean, deviation = targets.mean(axis=0), _spread(targets)
    inputs = (invariants - centre) / spread
    outputs = (targets - mean) / deviation
    posteriors = tuple(
        fit_posterior(inputs, outputs[:, p], derive_seed("draw", seed, p)) for p in range(outputs.shape[1])
    )
    errors = np.stack([posterior.residuals for posterior in posteriors], axis=1)
    expected = np.stack([posterior.residual_deviations for posterior in posteriors], axis=1)
    return SystemFit(centre, spread, mean, deviation, posteriors, fit_recalibration(errors, expected))


def _spread(values: FloatArray) -> FloatArray:
    """Return standard deviations [columns], 1 where a column is constant."""
    deviation = values.std(axis=0)
    return np.where(deviation > 1e-9 * (1e-9 + np.abs(values).max(axis=0)), deviation, 1.0)


class ModesPredictor:
    """The posterior mean, and members spread around it as posterior draws are."""

    def __init__(self, fits: Sequence[ModesFit], systems: Mapping[str, System], width: int) -> None:
        self._fits = fits
        self._systems = systems
        self._width = width
        self.scale = fits[0].scaling.scale

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features; raises InputError where the block's system has no modes."""
        invariants = self._evaluate(block)
        means, draws = zip(*(_evaluate_fit(fit, block.system, invariants) for fit in self._fits), strict=True)
        scaled = np.array(means) + spread_out(np.array(draws), self._deviations(block.system, invariants))
        members = np.stack([fit.scaling.backward(block, value) for fit, value in zip(self._fits, scaled, strict=True)])
        return Prediction(members, self._features(block.system, invariants), self.scale)

    def _evaluate(self, block: Block) -> FloatArray:
        if block.system not in self._systems:
            raise InputError(unknown_system(block.system, self._systems))
        return invariants_of(self._systems[block.system]).evaluate(block)

    def _deviations(self, system: str, invariants: FloatArray) -> FloatArray:
        """Return recalibrated standard deviations [B, P] of scaled targets; 1 for a system without labels."""
        own = self._fits[0].systems.get(system)
        if own is None:
            return np.ones((len(invariants), len(self.scale)))
        inputs = own.inputs(invariants)
        expected = np.stack([posterior.standard_deviation(inputs) for posterior in own.posteriors], axis=1)
        return own.recalibration.apply(expected) * own.deviation

    def _features(self, system: str, invariants: FloatArray) -> FloatArray:
        """Return scaled invariants, projected so that all systems have equally many and none lies near another's."""
        fit = self._fits[0].systems.get(system)
        inputs = fit.inputs(invariants) if fit else invariants / _spread(invariants)
        rng = generator("modes sketch", system, inputs.shape[1])
        projection = rng.normal(size=(inputs.shape[1], self._width))
        away = rng.normal(size=self._width) * np.sqrt(2.0 / self._width)
        return np.asarray(inputs @ projection / np.sqrt(inputs.shape[1] * self._width) + away)


def _evaluate_fit(fit: ModesFit, system: str, invariants: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean and one draw's deviation [B, P] in scaled targets; a system without labels is a wild guess."""
    own = fit.systems.get(system)
    if own is None:
        n_targets = len(fit.scaling.scale)
        guess = generator("unlabelled", system, fit.seed).normal(size=n_targets)
        return np.zeros((len(invariants), n_targets)), np.tile(guess, (len(invariants), 1))
    inputs = own.inputs(invariants)
    means = np.stack([posterior.mean(inputs) for posterior in own.posteriors], axis=1)
    deviations = np.stack([posterior.deviation(inputs) for posterior in own.posteriors], axis=1)
    return means * own.deviation + own.mean, deviations * own.deviation


def unknown_system(name: str, systems: Mapping[str, System]) -> str:
    """Return the sentence for a configuration of a system whose modes nobody gave."""
    return (
        f"kind modes must know the system of a configuration but got {name!r}; "
        f"name one of {', '.join(sorted(systems)) or 'no system'}."
    )


def write_fit(fit: ModesFit) -> bytes:
    """Return a member as bytes (an npz archive)."""
    arrays: dict[str, Any] = {
        "elements": fit.scaling.elements,
        "baseline": fit.scaling.baseline,
        "scale": fit.scaling.scale,
        "seed": np.array(fit.seed),
        "names": np.array(list(fit.systems)),
    }
    for number, own in enumerate(fit.systems.values()):
        arrays |= {f"{number}/{name}": getattr(own, name) for name in ("centre", "spread", "mean", "deviation")}
        arrays[f"{number}/inputs"] = own.posteriors[0].inputs
        arrays |= {f"{number}/{name}": getattr(own.recalibration, name) for name in ("floors", "factors")}
        for name in POSTERIOR_ARRAYS:
            arrays[f"{number}/{name}"] = np.array([getattr(posterior, name) for posterior in own.posteriors])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read_fit(state: bytes) -> ModesFit:
    """Return a member from its bytes."""
    with np.load(io.BytesIO(state)) as arrays:
        scaling = Scaling(arrays["elements"], arrays["baseline"], arrays["scale"])
        systems = {str(name): _read_system(arrays, number) for number, name in enumerate(arrays["names"])}
        return ModesFit(scaling, systems, int(arrays["seed"]))


def _read_system(arrays: Mapping[str, FloatArray], number: int) -> SystemFit:
    inputs = arrays[f"{number}/inputs"]
    columns = {name: arrays[f"{number}/{name}"] for name in POSTERIOR_ARRAYS}
    posteriors = tuple(
        Posterior(inputs, **{name: values[p] for name, values in columns.items()})
        for p in range(len(columns["parameters"]))
    )
    centre, spread, mean, deviation = (arrays[f"{number}/{name}"] for name in ("centre", "spread", "mean", "deviation"))
    recalibration = Recalibration(arrays[f"{number}/floors"], arrays[f"{number}/factors"])
    return SystemFit(centre, spread, mean, deviation, posteriors, recalibration)
