"""Displacements along the crystal's vibrations, as the canonical harmonic ensemble has them at each temperature."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.records import FloatArray, System
from activeph.sample.drawn import DrawnPool, Guarded, pool_name

Kelvin = Annotated[float, Field(ge=0)]


class Thermal(Guarded):
    """Keys of samplers whose amplitudes come from the phonons."""

    temperatures: tuple[Kelvin, ...] | None = Field(None, strict=False, min_length=1)
    """Temperatures in K, equal shares in turn; null: those of the campaign."""
    statistics: Literal["quantum", "classical"] = "quantum"
    """Amplitudes with zero-point motion and Bose-Einstein occupation, or with k_B T per mode."""
    imaginary: Literal["refuse", "skip", "absolute", "floor"] = "refuse"
    """What to do with imaginary modes: stop; leave them out; take |ω| as phonopy does; lift them to `floor`."""
    floor: float = Field(0.5, gt=0)
    """Lowest frequency in THz under `imaginary: floor`."""
    amplitude: float = Field(1.0, gt=0)
    """Factor on all displacements: above 1 the pool is broader than the thermal distribution."""

    def temperatures_or_refuse(self) -> FloatArray:
        """Return the temperatures [T] in K or say that they are missing."""
        if self.temperatures is None:
            raise InputError("sampler must know temperatures but got none; set `temperatures` in K, e.g. [300]")
        return np.array(self.temperatures, dtype=np.float64)


class PhononSampler(Thermal):
    """Thermal displacements: every commensurate mode of the supercell, no rigid translation."""

    kind: Literal["phonon"] = "phonon"

    def pool(self, system: System, n: int, seed: int) -> DrawnPool:
        """Return ``n`` candidates.

        Raises:
            InputError: no force constants or temperatures, or imaginary modes that the policy refuses.
        """
        from activeph.phonons.draw import HarmonicDraw
        from activeph.phonons.modes import harmonic_modes
        from activeph.phonons.thermal import thermal_amplitudes

        temperatures = self.temperatures_or_refuse()
        modes = harmonic_modes(system)
        amplitudes = [
            self.amplitude * thermal_amplitudes(modes, T, self.statistics, self.imaginary, self.floor)
            for T in temperatures
        ]
        name = pool_name(self.kind, self, system)
        return DrawnPool(name, system, n, seed, temperatures, HarmonicDraw(modes, amplitudes), self)
