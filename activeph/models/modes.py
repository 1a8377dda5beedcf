"""Thermal properties as functions of how far each normal mode is out, and of pair distances.

The baseline that every network must beat: modes carry what the electrons feel collectively, sums over pairs of atoms
what a pair potential would say of energy and pressure.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.graphs.pair_sums import pair_sums_of
from activeph.models.base import read_arrays, unreadable
from activeph.models.calibration import Recalibration, fit_recalibration, spread_out
from activeph.models.gaussian_process import Posterior, fit_posterior
from activeph.models.invariants import invariants_of
from activeph.models.scaling import Scaling, fit_scaling
from activeph.records import Block, Dataset, FloatArray, IntArray, Prediction, System
from activeph.section import Section
from activeph.seeds import derive_seed, generator

CUTOFF, N_RADIAL = 6.0, 8  # of the sums over pairs: Å, functions of the distance per pair of elements
ROUNDED = 5e-7  # of a sum over pairs: what varies less is a constant in single precision
SYSTEM_ARRAYS = ("elements", "centre", "spread", "mean", "deviation")
RECALIBRATION_ARRAYS = ("floors", "factors")
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
    """Bayesian regression on symmetry-invariant polynomials of each system's normal coordinates and on pair distances.

    Needs force constants. Fits in a second; a member is the exact posterior mean with one posterior
    draw of its error. Systems share nothing but the composition's linear part.
    """

    kind: Literal["modes"] = "modes"
    keeps_atoms: ClassVar[bool] = True  # modes are those of a supercell's atoms
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

    elements: IntArray  # whose pairs are summed over
    n_modes: int  # the first columns of the inputs; the others are sums over pairs
    centre: FloatArray  # [m]
    spread: FloatArray  # [m]
    mean: FloatArray  # [P]
    deviation: FloatArray  # [P]
    posteriors: tuple[Posterior, ...]  # P
    recalibration: Recalibration  # of scaled outputs

    def inputs(self, system: System, block: Block) -> FloatArray:
        """Return what the regressions read of configurations [B, m]."""
        return np.asarray((_describe(system, self.elements, block) - self.centre) / self.spread)


@dataclass(frozen=True, eq=False)
class ModesFit:
    """One member: the regressions of every system that had labels."""

    scaling: Scaling
    systems: dict[str, SystemFit]
    seed: int

    def left_over(self, dataset: Dataset) -> FloatArray:
        """Return the part of the training targets [S, P] that the modes of all other labels do not predict.

        Of a system without a fit that is all but what its composition predicts, so that targets of all systems are of
        one size.
        """
        return self._left_over(dataset, "residuals")

    def left_out(self, dataset: Dataset) -> FloatArray:
        """Return :meth:`left_over` by fits that have not seen the labels, which differs for fewer than twenty."""
        return self._left_over(dataset, "refitted")

    def _left_over(self, dataset: Dataset, which: str) -> FloatArray:
        parts = []
        start = 0
        for block in dataset.blocks:
            fit = self.systems.get(block.system)
            rows = slice(start, start + len(block))
            if fit is None:
                parts.append(dataset.targets[rows] - self.scaling.offset(block))
            else:
                errors = np.stack([getattr(posterior, which) for posterior in fit.posteriors], axis=1)
                parts.append(errors * fit.deviation * self.scaling.scale)
            start += len(block)
        return np.concatenate(parts)

    def deviations(self, dataset: Dataset) -> FloatArray:
        """Return what the fits expect of :meth:`left_over` [S, P], as deviations; NaN for systems without one."""
        parts = []
        for block in dataset.blocks:
            fit = self.systems.get(block.system)
            if fit is None:
                parts.append(np.full((len(block), len(self.scaling.scale)), np.nan))
            else:
                expected = np.stack([posterior.residual_deviations for posterior in fit.posteriors], axis=1)
                parts.append(fit.recalibration.apply(expected) * fit.deviation * self.scaling.scale)
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
        fits[block.system] = _fit_system(systems[block.system], block, targets, seed)
    return ModesFit(scaling, fits, seed)


def _fit_system(system: System, block: Block, targets: FloatArray, seed: int) -> SystemFit:
    elements = np.unique(block.species)
    description = _describe(system, elements, block)
    centre, spread = description.mean(axis=0), _spread(description, ROUNDED)
    mean, deviation = targets.mean(axis=0), _spread(targets)
    inputs = (description - centre) / spread
    outputs = (targets - mean) / deviation
    n_modes = invariants_of(system).count
    groups = (n_modes, inputs.shape[1] - n_modes)
    posteriors = tuple(
        fit_posterior(inputs, outputs[:, p], derive_seed("draw", seed, p), groups) for p in range(outputs.shape[1])
    )
    errors = np.stack([posterior.errors() for posterior in posteriors], axis=2)  # [R, n, P]
    expected = np.stack([posterior.residual_deviations for posterior in posteriors], axis=1)
    recalibration = fit_recalibration(np.concatenate(errors), np.tile(expected, (len(errors), 1)))
    if len(block) == 1:  # a fit that passes through it is no proof: all that the composition leaves may be wrong
        recalibration = Recalibration(np.ones_like(deviation), np.ones_like(deviation))
    return SystemFit(elements, n_modes, centre, spread, mean, deviation, posteriors, recalibration)


def _describe(system: System, elements: IntArray, block: Block) -> FloatArray:
    """Return invariants of the normal coordinates, then sums over pairs [B, m]."""
    pairs = pair_sums_of(system, tuple(elements.tolist()), CUTOFF, N_RADIAL)
    return np.concatenate([invariants_of(system).evaluate(block), pairs.evaluate(block)], axis=1)


def _spread(values: FloatArray, least: float = 1e-9) -> FloatArray:
    """Return standard deviations [columns], 1 where a column is constant but for a share of its size."""
    deviation = values.std(axis=0)
    return np.where(deviation > least * (1e-9 + np.abs(values).max(axis=0)), deviation, 1.0)


def _shaken(system: System) -> Block:
    """Return random displacements, always the same: they give invariants a scale where there are no labels."""
    crystal, n = system.supercell, 64
    moved = crystal.positions + 0.1 * generator("shaken", system.name).normal(size=(n, *crystal.positions.shape))
    species, cells = np.tile(crystal.numbers, (n, 1)), np.tile(crystal.cell, (n, 1, 1))
    return Block(system.name, species, moved, cells, np.full(n, np.nan))


class ModesPredictor:
    """The posterior mean, and members spread around it as posterior draws are."""

    def __init__(self, fits: Sequence[ModesFit], systems: Mapping[str, System], width: int) -> None:
        self._fits = fits
        self._systems = systems
        self._width = width
        self.scale = fits[0].scaling.scale

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features; raises InputError where the block's system has no modes."""
        inputs = self._inputs(block)
        means, draws = zip(*(_evaluate_fit(fit, block.system, inputs) for fit in self._fits), strict=True)
        scaled = np.array(means) + spread_out(np.array(draws), self._deviations(block.system, inputs))
        members = np.stack([fit.scaling.backward(block, value) for fit, value in zip(self._fits, scaled, strict=True)])
        return Prediction(members, self._features(block.system, inputs), self.scale)

    def _inputs(self, block: Block) -> FloatArray:
        """Return what the regressions read; for a system without labels, invariants of the normal coordinates."""
        if block.system not in self._systems:
            raise InputError(unknown_system(block.system, self._systems))
        system = self._systems[block.system]
        fit = self._fits[0].systems.get(block.system)
        if fit:
            return fit.inputs(system, block)
        invariants = invariants_of(system)
        return np.asarray(invariants.evaluate(block) / _spread(invariants.evaluate(_shaken(system))))

    def _deviations(self, system: str, inputs: FloatArray) -> FloatArray:
        """Return recalibrated standard deviations [B, P] of scaled targets; 1 for a system without labels."""
        own = self._fits[0].systems.get(system)
        if own is None:
            return np.ones((len(inputs), len(self.scale)))
        expected = np.stack([posterior.standard_deviation(inputs) for posterior in own.posteriors], axis=1)
        return own.recalibration.apply(expected) * own.deviation

    def _features(self, system: str, inputs: FloatArray) -> FloatArray:
        """Return scaled invariants, projected so that all systems have equally many and none lies near another's."""
        fit = self._fits[0].systems.get(system)
        inputs = inputs[:, : fit.n_modes] if fit else inputs
        rng = generator("modes sketch", system, inputs.shape[1])
        projection = rng.normal(size=(inputs.shape[1], self._width))
        away = rng.normal(size=self._width) * np.sqrt(2.0 / self._width)
        return np.asarray(inputs @ projection / np.sqrt(inputs.shape[1] * self._width) + away)


def _evaluate_fit(fit: ModesFit, system: str, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean and one draw's deviation [B, P] in scaled targets; a system without labels is a wild guess."""
    own = fit.systems.get(system)
    if own is None:
        n_targets = len(fit.scaling.scale)
        guess = generator("unlabelled", system, fit.seed).normal(size=n_targets)
        return np.zeros((len(inputs), n_targets)), np.tile(guess, (len(inputs), 1))
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
        arrays |= {f"{number}/{name}": getattr(own, name) for name in SYSTEM_ARRAYS}
        arrays[f"{number}/n_modes"] = np.array(own.n_modes)
        arrays[f"{number}/inputs"] = own.posteriors[0].inputs
        arrays |= {f"{number}/{name}": getattr(own.recalibration, name) for name in RECALIBRATION_ARRAYS}
        for name in POSTERIOR_ARRAYS:
            arrays[f"{number}/{name}"] = np.array([getattr(posterior, name) for posterior in own.posteriors])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read_fit(state: bytes) -> ModesFit:
    """Return a member from its bytes. Raises InputError for those of another kind or version."""
    arrays = read_arrays(state, "elements", "baseline", "scale", "names", "seed")
    scaling = Scaling(arrays["elements"], arrays["baseline"], arrays["scale"])
    try:
        systems = {str(name): _read_system(arrays, number) for number, name in enumerate(arrays["names"])}
    except (KeyError, ValueError) as error:
        raise InputError(unreadable(f"one of another version ({error})")) from None
    return ModesFit(scaling, systems, int(arrays["seed"]))


def _read_system(arrays: Mapping[str, Any], number: int) -> SystemFit:
    inputs, n_modes = arrays[f"{number}/inputs"], int(arrays[f"{number}/n_modes"])
    groups = (n_modes, inputs.shape[1] - n_modes)
    columns = {name: arrays[f"{number}/{name}"] for name in POSTERIOR_ARRAYS}
    posteriors = tuple(
        Posterior(inputs, groups, **{name: values[p] for name, values in columns.items()})
        for p in range(len(columns["parameters"]))
    )
    elements, centre, spread, mean, deviation = (arrays[f"{number}/{name}"] for name in SYSTEM_ARRAYS)
    recalibration = Recalibration(*(arrays[f"{number}/{name}"] for name in RECALIBRATION_ARRAYS))
    return SystemFit(elements, n_modes, centre, spread, mean, deviation, posteriors, recalibration)
