"""The thermal distribution of a harmonic crystal: densities, coordinates and covariance of displacements."""

from __future__ import annotations

import numpy as np

from activeph.phonons.modes import HarmonicModes
from activeph.phonons.thermal import Statistics, covariance, variances
from activeph.phonons.units import THZ_PER_ROOT
from activeph.records import FloatArray


class ThermalGaussian:
    """Displacements of a crystal at a temperature, with |ω| for frequencies, and at least ``floor`` (THz)."""

    def __init__(
        self, modes: HarmonicModes, masses: FloatArray, temperature: float, statistics: Statistics, floor: float
    ) -> None:
        self.modes = modes
        self.used = np.maximum(np.abs(modes.frequencies), floor)  # THz
        self.amplitudes = np.sqrt(variances(self.used, temperature, statistics))
        self._vectors = modes.vectors()
        self._masses = masses

    def covariance(self) -> FloatArray:
        """Return the covariance [3N, 3N] of displacements in Å²."""
        return covariance(self.modes, self.amplitudes)

    def mean_energy(self) -> float:
        """Return the mean potential energy in eV of the harmonic crystal itself."""
        return float(0.5 * np.sum((self.used / THZ_PER_ROOT * self.amplitudes) ** 2))

    def widest(self, wider: ThermalGaussian) -> float:
        """Return the largest ratio, over all directions, of the variance of ``wider`` to that of this Gaussian."""
        vectors = self._vectors * np.repeat(np.sqrt(self._masses), 3)[:, None] / self.amplitudes
        return float(np.linalg.eigvalsh(vectors.T @ wider.covariance() @ vectors)[-1])

    def log_density(self, displacements: FloatArray) -> FloatArray:
        """Return the logarithm of the density [S] at [S, N, 3] Å, up to a constant of the crystal."""
        weighted = displacements * np.sqrt(self._masses)[:, None]
        scaled = weighted.reshape(len(displacements), -1) @ self._vectors / self.amplitudes
        return np.asarray(-0.5 * np.sum(scaled**2, axis=1) - np.sum(np.log(self.amplitudes)))
