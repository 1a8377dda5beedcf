"""The stress tensor beside any model of scalar properties.

A component of a tensor changes when the crystal is turned, so nothing built on invariant features can learn it. The
tensor is learned as a whole instead, by regression on tensors that turn with the crystal, and the model that the user
chose learns everything else.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from activeph.models.around import Around
from activeph.models.base import Model, Predictor, read_arrays
from activeph.models.calibration import Recalibration, fit_recalibration, spread_out
from activeph.models.scaling import fit_scaling
from activeph.models.tensor_features import FROM_COMPONENTS, TO_COMPONENTS, TensorFeatures
from activeph.models.tensor_regression import LeftOut, LinearPosterior, fit_linear
from activeph.records import Block, Dataset, FloatArray, IntArray, Prediction, System
from activeph.targets import HYDROSTATIC_STRESS, STRESS_COMPONENTS

SHOWN = np.vstack([TO_COMPONENTS, TO_COMPONENTS[:3].mean(axis=0)])  # [7, 6] the components and the mean of the diagonal


def with_stress(model: Model, target_names: Sequence[str]) -> Model:
    """Return a model that learns the targets: ``model`` itself unless it needs help with components of the stress.

    A model that learns them by itself names them in ``learns``.
    """
    components = set(target_names) & set(STRESS_COMPONENTS)
    return WithStress(model) if components - set(getattr(model, "learns", ())) else model


@dataclass(frozen=True)
class WithStress(Around):
    """A model of scalars, and equivariant regression of the stress tensor.

    Hydrostatic stress is then the mean of the three diagonal components. Where there is no other target, the model
    learns the hydrostatic stress all the same, for the features that selectors compare. The inner state is that of the
    model of scalars, whose targets are :func:`scalar_names`.
    """

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member; see :class:`activeph.models.base.Model`."""
        fit_scaling(dataset)  # refuses what cannot be learned from
        earlier = self.inner(warm) if warm is not None else None
        state = self.model.fit(_scalars(dataset), systems, seed, earlier)
        arrays = _write_tensor(fit_tensor(dataset, systems, seed))
        buffer = io.BytesIO()
        names = np.array(dataset.target_names)
        np.savez(buffer, model=np.frombuffer(state, dtype=np.uint8), names=names, **arrays)
        return buffer.getvalue()

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> Predictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        records = [_read(state) for state in states]
        predictor = self.model.load([record["model"].tobytes() for record in records], systems)
        fits = [_read_tensor(record) for record in records]
        return StressPredictor(predictor, fits, systems, [str(name) for name in records[0]["names"]])


class StressPredictor:
    """A predictor of scalars with the components of the stress put in their places."""

    def __init__(
        self, scalars: Predictor, fits: Sequence[TensorFit], systems: Mapping[str, System], names: Sequence[str]
    ) -> None:
        self._scalars = scalars
        self._fits = fits
        self._names = names
        self._features = TensorFeatures(systems, fits[0].elements, fits[0].centre)

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        scalars = self._scalars.predict(block)
        stress = self._stress(block, len(scalars.members))
        size = self._fits[0].size
        places = {name: column for column, name in enumerate(scalar_names(self._names))}
        members, scales = [], []
        for name in self._names:
            if name in STRESS_COMPONENTS:
                column = STRESS_COMPONENTS.index(name)
                members.append(stress[..., column])
                scales.append(size if column < 3 else size / np.sqrt(2))
            elif name == HYDROSTATIC_STRESS:
                members.append(stress[..., 6])
                scales.append(self._fits[0].hydrostatic_size)
            else:
                members.append(scalars.members[..., places[name]])
                scales.append(scalars.scale[places[name]])
        return replace(scalars, members=np.stack(members, axis=2), scale=np.array(scales))

    def _stress(self, block: Block, n_members: int) -> FloatArray:
        """Return members [K, B, xx ... xy, hydrostatic] in eV/Å³ around the mean, spread as the posterior is.

        The hydrostatic stress is spread by itself: components are correlated, and each is spread without the others.
        """
        first = self._fits[0]
        features = self._features.evaluate(block)
        mean = first.mean(features)
        draws = np.array([fit.posterior.deviation(features) @ SHOWN.T for fit in self._fits])
        if len(draws) != n_members:
            draws = _more_draws(first, features, n_members)
        return np.asarray(mean + spread_out(draws, first.deviations(features)))


@dataclass(frozen=True, eq=False)
class TensorFit:
    """One member: everything but the posterior's draw is the same for all. Stress in units of ``unit`` inside."""

    elements: IntArray  # [Z]
    centre: FloatArray  # [Z, Z n] of l = 0 moments
    pressure: float  # eV/Å³, trace / √3 where nothing is displaced, so to say: the mean over the labels
    unit: float  # eV/Å³
    size: float  # eV/Å³, root mean square norm of what varies, over nine Cartesian components
    hydrostatic_size: float  # eV/Å³, standard deviation
    posterior: LinearPosterior
    recalibration: Recalibration  # of traceless part and trace

    def mean(self, features: FloatArray) -> FloatArray:
        """Return the posterior mean [B, xx ... xy, hydrostatic] in eV/Å³."""
        tensors = self.posterior.mean(features) * self.unit
        tensors[:, 5] += self.pressure
        return np.asarray(tensors @ SHOWN.T)

    def deviations(self, features: FloatArray) -> FloatArray:
        """Return recalibrated standard deviations [B, xx ... xy, hydrostatic] in eV/Å³."""
        covariance = self.posterior.covariance(features)
        floors, factors = self.recalibration.floors, self.recalibration.factors
        covariance[:, :5, 5] = covariance[:, 5, :5] = 0
        covariance[:, :5, :5] = factors[0] ** 2 * covariance[:, :5, :5] + floors[0] ** 2 * np.eye(5)
        covariance[:, 5, 5] = factors[1] ** 2 * covariance[:, 5, 5] + floors[1] ** 2
        variances = np.einsum("ck,bkl,cl->bc", SHOWN, covariance, SHOWN)
        return np.asarray(np.sqrt(np.maximum(variances, 0)) * self.unit)


def fit_tensor(dataset: Dataset, systems: Mapping[str, System], seed: int) -> TensorFit:
    """Return the regression of the stress on all labels of a dataset."""
    known = [system.elements for system in systems.values()]
    elements = np.unique(np.concatenate([*known, *(block.species.ravel() for block in dataset.blocks)]))
    blank = TensorFeatures(systems, elements)
    sums, counts = (sum(parts) for parts in zip(*map(blank.measure_centre, dataset.blocks), strict=True))
    centre = np.asarray(sums / np.maximum(counts, 1)[:, None])
    builder = TensorFeatures(systems, elements, centre)
    features = np.concatenate([builder.evaluate(block) for block in dataset.blocks])
    tensors = dataset.stresses @ FROM_COMPONENTS.T
    pressure = float(tensors[:, 5].mean())
    tensors[:, 5] -= pressure
    norm = float(np.sqrt(np.mean(np.sum(tensors**2, axis=1))))
    size = norm if norm > 1e-12 else 1.0
    unit = size / np.sqrt(6)
    posterior, left_out = fit_linear(features, tensors / unit, builder.groups, seed)
    hydrostatic = float(np.std(tensors[:, 5])) / np.sqrt(3)
    hydrostatic = hydrostatic if hydrostatic > 1e-12 else 1.0
    return TensorFit(elements, centre, pressure, unit, size, hydrostatic, posterior, _recalibrate(left_out))


def _recalibrate(left_out: LeftOut) -> Recalibration:
    """Return floors and factors of the traceless part and of the trace: one each, so that no direction is preferred."""
    deviations = np.sqrt(np.maximum(np.diagonal(left_out.covariances, axis1=1, axis2=2), 0))
    parts = [
        fit_recalibration(left_out.errors[:, part].reshape(-1, 1), deviations[:, part].reshape(-1, 1))
        for part in (slice(0, 5), slice(5, 6))
    ]
    return Recalibration(*(np.array([getattr(part, name)[0] for part in parts]) for name in ("floors", "factors")))


def _more_draws(fit: TensorFit, features: FloatArray, n: int) -> FloatArray:
    """Return draws [n, B, xx ... xy, hydrostatic] from one fit, where a single fit predicts several members."""
    posterior = fit.posterior
    draws = []
    for number in range(n):
        z = np.random.Generator(np.random.SFC64(number)).normal(size=len(posterior.columns))
        shrunk = posterior.directions @ ((1 - np.sqrt(1 - posterior.known)) * (posterior.directions.T @ z))
        draws.append((features * posterior.columns) @ (z - shrunk) @ SHOWN.T)
    return np.array(draws)


def scalar_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return what the model beside the tensor learns."""
    others = tuple(name for name in names if name not in STRESS_COMPONENTS and name != HYDROSTATIC_STRESS)
    return others or (HYDROSTATIC_STRESS,)


def _scalars(dataset: Dataset) -> Dataset:
    names = scalar_names(dataset.target_names)
    if names == (HYDROSTATIC_STRESS,):
        targets = dataset.stresses[:, :3].mean(axis=1, keepdims=True)
    else:
        targets = dataset.targets[:, [dataset.target_names.index(name) for name in names]]
    return replace(dataset, target_names=names, targets=targets)


def _write_tensor(fit: TensorFit) -> dict[str, Any]:
    numbers = np.array([fit.pressure, fit.unit, fit.size, fit.hydrostatic_size])
    posterior = {
        f"posterior/{name}": getattr(fit.posterior, name)
        for name in ("columns", "mean_weights", "directions", "known", "draw_weights")
    }
    recalibration = {"floors": fit.recalibration.floors, "factors": fit.recalibration.factors}
    return {"elements": fit.elements, "centre": fit.centre, "numbers": numbers, **posterior, **recalibration}


def _read(state: bytes) -> dict[str, Any]:
    return read_arrays(state, "model", "names", "numbers")


def _read_tensor(arrays: Mapping[str, Any]) -> TensorFit:
    posterior = {name.split("/")[1]: array for name, array in arrays.items() if name.startswith("posterior/")}
    recalibration = Recalibration(arrays["floors"], arrays["factors"])
    pressure, unit, size, hydrostatic = (float(value) for value in arrays["numbers"])
    linear = LinearPosterior(**posterior)
    return TensorFit(arrays["elements"], arrays["centre"], pressure, unit, size, hydrostatic, linear, recalibration)
