"""The cell of least free energy at a temperature: F(V, T) = E(V) + F_vib(V, T), thermal expansion of harmonic crystals.

G. Leibfried and W. Ludwig, Solid State Phys. 12, 275 (1961). F(V) is fitted by the third-order Birch-Murnaghan
equation, a cubic polynomial in x = V^(-2/3) (F. Birch, Phys. Rev. 71, 809 (1947)), whose minimum is a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activeph.errors import InputError
from activeph.phonons.thermal import CUTOFF, Statistics, harmonic_free_energy
from activeph.records import FloatArray, IntArray

GPA = 160.21766208
"""GPa of 1 eV/Å³."""
FEWEST = 4  # volumes: the parameters of the equation of state


@dataclass(frozen=True)
class Equilibrium:
    """The crystal where its free energy is least."""

    temperature: float  # K
    volume: float  # Å³
    free_energy: float  # eV
    bulk_modulus: float  # GPa, isothermal
    misfit: float  # eV, root mean square of free energies against the fitted equation of state
    shape: tuple[float, ...] = ()  # changes of shape at constant volume, where they are free


@dataclass(frozen=True, eq=False)
class CellSeries:
    """One crystal in several cells: all extensive quantities are those of one and the same supercell.

    Stable means that all vibrations are real; other cells are no part of the free energy.
    """

    volumes: FloatArray  # [V] Å³
    energies: FloatArray  # [V] eV, atoms at rest
    frequencies: Sequence[FloatArray]  # V times [3N - 3] THz, negative where imaginary
    statistics: Statistics = "quantum"

    @property
    def stable(self) -> IntArray:
        """Indices of the cells in which all vibrations are real."""
        return np.flatnonzero([frequencies.min() > CUTOFF for frequencies in self.frequencies]).astype(np.int64)

    def free_energies(self, temperature: float) -> FloatArray:
        """Return F in eV of the stable cells at a temperature in K, zero-point energy included where quantum."""
        vibrations = [harmonic_free_energy(self.frequencies[i], temperature, self.statistics) for i in self.stable]
        return np.asarray(self.energies[self.stable] + np.array(vibrations))


@dataclass(frozen=True, eq=False)
class VolumeSeries(CellSeries):
    """One crystal at several volumes, largest last, its shape kept."""

    def equilibrium(self, temperature: float) -> Equilibrium | None:
        """Return where F is least at a temperature in K; None where that is not between the stable volumes.

        Raises:
            InputError: fewer than four stable volumes, or unstable ones between them.
        """
        if len(self.stable) < FEWEST:
            raise InputError(
                f"a quasi-harmonic cell must have at least {FEWEST} volumes without imaginary modes but got "
                f"{len(self.stable)} of {len(self.volumes)}; take other strains, nearer to the stable crystal"
            )
        if np.any(np.diff(self.stable) > 1):
            gap = next(i for i in range(int(self.stable[0]), len(self.volumes)) if i not in self.stable)
            raise InputError(
                "a quasi-harmonic cell must have real vibrations at all volumes between the smallest and the largest "
                f"stable one but got {self.frequencies[gap].min():.2f} THz at {self.volumes[gap]:.4g} Å³; "
                "give expansion as a number, or other strains"
            )
        return _least(self.volumes[self.stable], self.free_energies(temperature), temperature)

    def weights(self, found: Equilibrium) -> FloatArray:
        """Return the weight [S] of each stable volume in what is interpolated to an equilibrium, along the lengths."""
        return polynomial_weights(np.cbrt(self.volumes[self.stable]), float(np.cbrt(found.volume)))

    def escaping(self, temperature: float) -> str:
        """Return to which side F falls beyond the stable volumes, in words: larger or smaller strains."""
        energies = self.free_energies(temperature)
        return "larger strains" if energies[-1] < energies[0] else "smaller strains"

    def free_energy_curve(self, temperature: float, volumes: FloatArray) -> FloatArray:
        """Return the fitted F in eV at any volumes [n], for pictures."""
        known = self.volumes[self.stable]
        unit = known.mean()
        fitted = _equation(known, self.free_energies(temperature), unit)
        return np.asarray(np.polynomial.polynomial.polyval((unit / volumes) ** (2 / 3), fitted))


def polynomial_weights(places: FloatArray, place: float) -> FloatArray:
    """Return the weights [V] of values at ``places`` [V] in that at another: least squares, cubic at most."""
    degree = min(3, len(places) - 1)
    centre, scale = places.mean(), np.abs(places - places.mean()).max()
    powers = np.vander((places - centre) / scale, degree + 1)
    return np.asarray(np.vander([(place - centre) / scale], degree + 1)[0] @ np.linalg.pinv(powers))


def _equation(volumes: FloatArray, energies: FloatArray, unit: float) -> FloatArray:
    """Return the coefficients [4] of rising powers of (unit/V)^(2/3)."""
    return np.asarray(np.polynomial.polynomial.polyfit((unit / volumes) ** (2 / 3), energies, 3))


def _least(volumes: FloatArray, energies: FloatArray, temperature: float) -> Equilibrium | None:
    unit = volumes.mean()
    _, c1, c2, c3 = fitted = _equation(volumes, energies, unit)
    places = (unit / volumes) ** (2 / 3)
    for x in np.roots([3 * c3, 2 * c2, c1]):
        curvature = 2 * c2 + 6 * c3 * x.real
        if abs(x.imag) > 1e-12 or curvature <= 0 or not places.min() <= x.real <= places.max():
            continue
        volume = float(unit * x.real**-1.5)
        errors = np.polynomial.polynomial.polyval(places, fitted) - energies
        return Equilibrium(
            temperature=temperature,
            volume=volume,
            free_energy=float(np.polynomial.polynomial.polyval(x.real, fitted)),
            # at the minimum d²F/dV² = F''(x) (dx/dV)², dx/dV = -2x/3V
            bulk_modulus=float(4 / 9 * x.real**2 * curvature / volume * GPA),
            misfit=float(np.sqrt(np.mean(errors**2))),
        )
    return None
