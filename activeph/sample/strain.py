"""Homogeneous strains of the cell: a chosen spread, thermal expansion, and the cell's own thermal fluctuations."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from activeph.phonons.units import BOLTZMANN
from activeph.records import FloatArray, System, ThermalCell
from activeph.sample.at_temperature import at_temperature
from activeph.section import Section, wrong_value
from activeph.systems.freedom import TRACELESS

GPA = 1 / 160.21766208  # eV/Å³


class Strained(Section):
    """Keys of samplers that strain the cell and its atoms together. By default the cell stays."""

    strain: float = Field(0.0, ge=0, le=0.2)
    """Standard deviation of each of the six components of a random homogeneous strain."""
    expansion: Annotated[float, Field(ge=-1e-3, le=1e-3)] | Literal["quasi-harmonic"] = 0.0
    """Linear thermal expansion coefficient in 1/K: at T all lengths are (1 + expansion T) times those of the file; or
    quasi-harmonic: the cell of least free energy, and the force constants in it (`quasi_harmonic` of the system)."""
    bulk_modulus: float | None = Field(None, gt=0)
    """GPa; with `shear_modulus` the cell also fluctuates as it does at constant pressure (isotropic elasticity)."""
    shear_modulus: float | None = Field(None, gt=0)
    """GPa; see `bulk_modulus`."""

    @model_validator(mode="after")
    def _both_moduli_or_none(self) -> Strained:
        if (self.bulk_modulus is None) != (self.shear_modulus is None):
            raise wrong_value("must have bulk_modulus and shear_modulus together", "give both (GPa) or neither")
        return self

    @property
    def strains_cell(self) -> bool:
        """Whether any cell differs from that of the system."""
        return bool(self.strain or self.expansion or self.bulk_modulus)

    def strains(self, bits: np.random.SFC64, temperatures: FloatArray, system: System) -> FloatArray | None:
        """Return strains [B, 3, 3] of the system's cell at temperatures [B] (K; NaN counts as none).

        Fluctuations at zero pressure: the trace t has variance kT / (V B), each of the five orthonormal traceless
        components kT / (2 V G) (L. D. Landau, E. M. Lifshitz, Statistical Physics, §111, for an isotropic solid).
        """
        if not self.strains_cell:
            return None
        rng = np.random.Generator(bits)
        kelvin = np.nan_to_num(temperatures)
        values = self.strain * rng.standard_normal((len(kelvin), 6))
        result = values[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        result += self._expanded(kelvin, system)
        if self.bulk_modulus is not None and self.shear_modulus is not None:
            volume = float(abs(np.linalg.det(system.supercell.cell)))
            energy = BOLTZMANN * kelvin / volume  # eV/Å³
            trace = np.sqrt(energy / (self.bulk_modulus * GPA)) * rng.standard_normal(len(kelvin))
            shears = np.sqrt(energy / (2 * self.shear_modulus * GPA))[:, None] * rng.standard_normal((len(kelvin), 5))
            result += trace[:, None, None] * np.eye(3) / 3 + np.einsum("bk,kij->bij", shears, TRACELESS)
        return np.asarray(result)

    def shifts(self, temperatures: FloatArray, system: System) -> FloatArray | None:
        """Return where atoms rest from the strained sites [B, N, 3] in Å, None where they stay on them."""
        if self.expansion != "quasi-harmonic":
            return None
        levels, rows = np.unique(np.nan_to_num(temperatures), return_inverse=True)
        found = [thermal_cell(system, float(T)).shift for T in levels]
        if all(shift is None for shift in found):
            return None
        none = np.zeros_like(system.supercell.positions)
        return np.array([none if shift is None else shift for shift in found])[rows]

    def _expanded(self, kelvin: FloatArray, system: System) -> FloatArray:
        """Return the strain [B, 3, 3] that belongs to each temperature."""
        if self.expansion != "quasi-harmonic":
            return np.asarray((self.expansion * kelvin)[:, None, None] * np.eye(3))
        levels, rows = np.unique(kelvin, return_inverse=True)
        return np.array([thermal_cell(system, float(T)).strain for T in levels])[rows]


def thermal_cell(system: System, temperature: float) -> ThermalCell:
    """Return the quasi-harmonic cell of a system at a temperature (K). Raises InputError where there is none."""
    return at_temperature(system.thermal_cells, temperature, system, "a quasi-harmonic cell")
