"""Labelled draws from a series of thermal Gaussians: their weights under another one, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activeph.phonons.fit import ForceConstantFit
from activeph.phonons.gaussian import ThermalGaussian
from activeph.phonons.moments import Moments, explained, grouped_moments, pair_coefficients, total_moments
from activeph.phonons.pair_terms import PairTerms
from activeph.records import FloatArray


@dataclass(frozen=True, eq=False)
class Weights:
    """How much each draw counts under another distribution; effective numbers after L. Kish (1965)."""

    values: FloatArray  # [S], mean one
    effective: float  # number of draws that ``values`` are worth
    untempered: float  # the same of the true ratios of densities


class LabelledDraws:
    """All draws of one renormalisation; grows by :meth:`add`.

    ``coefficients`` [Q] are those of the pair terms that the draws teach, ``without`` the same without each group of
    draws, ``explained`` the share of the forces' variance that force constants and pair terms hold together, ``left``
    what pair terms leave of the variance that force constants alone leave: 1 where there are none.
    """

    def __init__(self, fit: ForceConstantFit, pairs: PairTerms, n_atoms: int) -> None:
        self._fit, self._pairs = fit, pairs
        self._u: FloatArray = np.empty((0, n_atoms, 3))
        self._forces: FloatArray = np.empty((0, n_atoms, 3, 1 + pairs.n_terms))  # labelled, then of pair terms
        self._energies: FloatArray = np.empty(0)
        self._pair_energies: FloatArray = np.empty((0, pairs.n_terms))
        self._sources: list[ThermalGaussian] = []
        self._counts: list[int] = []
        self.coefficients: FloatArray = np.zeros(pairs.n_terms)
        self.without: list[FloatArray] = []
        self.explained, self.left = 1.0, 1.0

    def __len__(self) -> int:
        return len(self._energies)

    def add(self, source: ThermalGaussian, displacements: FloatArray, forces: FloatArray, energies: FloatArray) -> None:
        """Take the labels of draws from ``source``: displacements [S, N, 3] Å, forces [S, N, 3] eV/Å, energies [S]."""
        self._sources.append(source)
        self._counts.append(len(forces))
        pair_energies, pair_forces = self._pairs.evaluate(displacements)
        both = np.concatenate([forces[..., None], pair_forces], axis=3)
        self._u = np.concatenate([self._u, displacements])
        self._forces = np.concatenate([self._forces, both])
        self._energies = np.concatenate([self._energies, energies])
        self._pair_energies = np.concatenate([self._pair_energies, pair_energies])
        if len(self):
            groups = self.moments(np.ones(len(self)))
            self.coefficients, self.without = pair_coefficients(groups)
            total = total_moments(groups)
            self.explained = explained(total, self.coefficients)
            alone = explained(total, np.zeros_like(self.coefficients))
            self.left = (1 - self.explained) / (1 - alone) if self.coefficients.any() else 1.0

    def moments(self, weights: FloatArray) -> list[Moments]:
        """Return the moments of up to ten groups of draws under weights [S]."""
        return grouped_moments(self._fit, self._u, self._forces, weights)

    def weights(self, target: ThermalGaussian, least: float) -> Weights:
        """Return how much each draw counts under ``target``, tempered where fewer than ``least`` draws would."""
        counts = np.array(self._counts, dtype=np.float64)
        densities = np.array([source.log_density(self._u) for source in self._sources])  # [rounds, S]
        densities[counts == 0] = -np.inf
        share = np.log(np.maximum(counts, 1e-300) / counts.sum())
        highest = densities.max(axis=0)
        mixture = highest + np.log(np.exp(densities - highest + share[:, None]).sum(axis=0))
        logarithm = target.log_density(self._u) - mixture
        logarithm -= logarithm.max()
        true = _effective(np.exp(logarithm))
        power = 1.0
        while power > 1e-3 and _effective(np.exp(power * logarithm)) < min(least, 0.9 * len(self)):
            power *= 0.8
        weights = np.exp(power * logarithm)
        return Weights(weights / weights.mean(), _effective(weights), true)

    def excess(self, constants: FloatArray) -> FloatArray:
        """Return the labelled energies [S] in eV less those of pair terms and of force constants of parameters [P]."""
        return np.asarray(
            self._energies - self._pair_energies @ self.coefficients - self._fit.energies(constants, self._u)
        )


def _effective(weights: FloatArray) -> float:
    return float(weights.sum() ** 2 / (weights**2).sum())
