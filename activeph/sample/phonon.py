"""Displacements along the crystal's vibrations, as the canonical harmonic ensemble has them at each temperature."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from activeph.errors import InputError
from activeph.records import FloatArray, System
from activeph.sample.at_temperature import at_temperature
from activeph.sample.drawn import DrawnPool, Guarded, pool_name
from activeph.sample.strain import thermal_cell
from activeph.section import wrong_value

if TYPE_CHECKING:
    from activeph.phonons.modes import HarmonicModes

Kelvin = Annotated[float, Field(ge=0)]


class Thermal(Guarded):
    """Keys of samplers whose amplitudes come from the phonons."""

    temperatures: tuple[Kelvin, ...] | None = Field(None, strict=False, min_length=1)
    """Temperatures in K, equal shares in turn; null: those of the campaign."""
    statistics: Literal["quantum", "classical"] = "quantum"
    """Amplitudes with zero-point motion and Bose-Einstein occupation, or with k_B T per mode."""
    imaginary: Literal["refuse", "skip", "absolute", "floor", "renormalise"] = "refuse"
    """What to do with imaginary modes: stop; leave them out; take |ω| as phonopy does; lift them to `floor`; or use
    the force constants that were renormalised at each temperature."""
    floor: float = Field(0.5, gt=0)
    """Lowest frequency in THz under `imaginary: floor`."""
    amplitude: float = Field(1.0, gt=0)
    """Factor on all displacements: above 1 the pool is broader than the thermal distribution."""

    @model_validator(mode="after")
    def _one_kind_of_warmth(self) -> Self:
        if self.imaginary == "renormalise" and self.expansion == "quasi-harmonic":
            raise wrong_value(
                "must have renormalised force constants or a quasi-harmonic cell but not both",
                "renormalised ones belong to the cell of the file; give expansion as a number (1/K)",
                "imaginary: renormalise with expansion: quasi-harmonic",
            )
        return self

    def temperatures_or_refuse(self) -> FloatArray:
        """Return the temperatures [T] in K or say that they are missing."""
        if self.temperatures is None:
            raise InputError("sampler must know temperatures but got none; set `temperatures` in K, e.g. [300]")
        return np.array(self.temperatures, dtype=np.float64)

    def ensembles(self, system: System) -> list[tuple[HarmonicModes, FloatArray]]:
        """Return modes and σ [3N - 3] in amu^(1/2) Å at each temperature, `amplitude` included.

        Raises:
            InputError: no force constants or temperatures, imaginary modes that the policy refuses, or
                no renormalised force constants or quasi-harmonic cell at a temperature where they are asked for.
        """
        from activeph.phonons.modes import harmonic_modes
        from activeph.phonons.thermal import thermal_amplitudes

        found = []
        warm = self.imaginary == "renormalise" or self.expansion == "quasi-harmonic"
        shared = None if warm else harmonic_modes(system)
        for T in self.temperatures_or_refuse():
            modes = shared or harmonic_modes(self._at(system, float(T)))
            amplitudes = thermal_amplitudes(modes, float(T), self.statistics, self.imaginary, self.floor)
            found.append((modes, self.amplitude * amplitudes))
        return found

    def _at(self, system: System, temperature: float) -> System:
        """Return the system with the force constants that belong to a temperature."""
        if self.imaginary == "renormalise":
            return effective_system(system, temperature)
        return dataclasses.replace(system, force_constants=thermal_cell(system, temperature).force_constants)


class PhononSampler(Thermal):
    """Thermal displacements: every commensurate mode of the supercell, no rigid translation."""

    kind: Literal["phonon"] = "phonon"

    def pool(self, system: System, n: int, seed: int) -> DrawnPool:
        """Return ``n`` candidates.

        Raises:
            InputError: no force constants or temperatures, or imaginary modes that the policy refuses.
        """
        from activeph.phonons.draw import HarmonicDraw

        temperatures, draw = self.temperatures_or_refuse(), HarmonicDraw(self.ensembles(system))
        return DrawnPool(pool_name(self.kind, self, system), system, n, seed, temperatures, draw, self)


def effective_system(system: System, temperature: float) -> System:
    """Return the system with the force constants renormalised at a temperature (K). Raises InputError without any."""
    constants = at_temperature(system.effective_force_constants, temperature, system, "renormalised force constants")
    return dataclasses.replace(system, force_constants=constants)
