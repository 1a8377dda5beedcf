"""Displacements that know nothing of bonds: the baseline that phonon-informed candidates must beat, in three forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from activeph.errors import InputError
from activeph.records import FloatArray, IntArray, System
from activeph.sample.drawn import DrawnPool, pool_name
from activeph.sample.phonon import Thermal

if TYPE_CHECKING:
    from activeph.phonons.modes import HarmonicModes


class RandomSampler(Thermal):
    """Independent displacements of all atoms.

    ``matched``: normal, centred, with each species' root mean square displacement equal to that of the phonon pool at
    each temperature, rigid translation removed. ``uniform``: each component in ±`distance`. ``one-sided``: each
    component in 0..`distance`, which shifts the whole crystal; the published phonon-versus-random comparison used it
    with distances of 0.25 to 1.25 Å.
    """

    kind: Literal["random"] = "random"
    distribution: Literal["matched", "uniform", "one-sided"] | None = None
    """`matched`, `uniform` or `one-sided`; null: `matched` where the system has force constants, else `uniform`."""
    distance: float | Annotated[tuple[float, float], Field(strict=False)] | None = None
    """Å, for `uniform` and `one-sided`: one value, or [lowest, highest] of which each candidate draws its own; null:
    0.3, or [0.25, 1.25] for `one-sided`."""
    by_species: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Factor on the displacements of an element, such as {H: 2.0, Pb: 0.5}; 1 for those that are not named."""

    def pool(self, system: System, n: int, seed: int) -> DrawnPool:
        """Return ``n`` candidates.

        Raises:
            InputError: ``matched`` without force constants or temperatures, or with imaginary modes that are refused.
        """
        distribution = self.distribution or ("uniform" if system.force_constants is None else "matched")
        name = pool_name(self.kind, self, system)
        if distribution == "matched":
            temperatures = self.temperatures_or_refuse()
            deviations = np.array([_matched(system, *ensemble) for ensemble in self.ensembles(system)])
            deviations *= self._factors(system)
            return DrawnPool(name, system, n, seed, temperatures, _Normal(deviations), self)
        if self.expansion == "quasi-harmonic":
            raise InputError(
                f"expansion must be a number for {distribution} displacements, which know no temperature, but got "
                "quasi-harmonic; set `distribution: matched`"
            )
        low, high = self._distances(distribution)
        draw = _Uniform(self.amplitude * self._factors(system), low, high, distribution == "one-sided")
        return DrawnPool(name, system, n, seed, np.array([np.nan]), draw, self)

    def _factors(self, system: System) -> FloatArray:
        """Return the factor [N] of each atom."""
        from ase.data import chemical_symbols

        symbols = [chemical_symbols[Z] for Z in system.supercell.numbers]
        unknown = sorted(set(self.by_species) - set(symbols))
        if unknown:
            raise InputError(
                f"by_species must name elements of system {system.name!r} but got {', '.join(unknown)}; "
                f"it has {', '.join(sorted(set(symbols)))}"
            )
        return np.array([self.by_species.get(symbol, 1.0) for symbol in symbols])

    def _distances(self, distribution: str) -> tuple[float, float]:
        default = (0.25, 1.25) if distribution == "one-sided" else 0.3
        value = default if self.distance is None else self.distance
        low, high = value if isinstance(value, tuple) else (value, value)
        if not 0 <= low <= high or high == 0:
            raise InputError(
                f"distance must be positive, lowest before highest, but got {value}; write e.g. 0.3 or [0.1, 0.5] (Å)"
            )
        return low, high


def _matched(system: System, modes: HarmonicModes, amplitudes: FloatArray) -> FloatArray:
    """Return the standard deviation [N] of each component, in Å, before the mean displacement is removed."""
    from activeph.phonons.thermal import rms_per_species

    numbers = system.supercell.numbers
    rms = rms_per_species(modes, amplitudes, numbers[system.primitive_atoms])
    wanted = np.array([rms[int(Z)] ** 2 / 3 for Z in numbers])  # Å², one component, after centring
    n = len(numbers)
    if n < 3:
        return np.sqrt(wanted * n / (n - 1))
    # Removing the mean of n atoms turns variance v_i into v_i (1 - 2/n) + Σ_j v_j / n²; solved for v_i.
    shared = wanted.sum() / (n * (n - 1))
    return np.asarray(np.sqrt(np.maximum(wanted - shared, 0) / (1 - 2 / n)))


class _Normal:
    """Centred normal displacements with given deviations [T, N] in Å."""

    def __init__(self, deviations: FloatArray) -> None:
        self._deviations = deviations.astype(np.float32)

    def __call__(self, bits: np.random.SFC64, temperatures: IntArray) -> NDArray[np.floating]:
        from activeph.phonons.draw import standard_normals

        n_atoms = self._deviations.shape[1]
        result = standard_normals(bits, len(temperatures), 3 * n_atoms).reshape(-1, n_atoms, 3)
        result *= self._deviations[temperatures][:, :, None]
        result -= result.mean(axis=1, keepdims=True)
        return result


class _Uniform:
    """Uniform displacements in ±d or 0..d, with d itself uniform between two bounds per candidate."""

    def __init__(self, factors: FloatArray, low: float, high: float, one_sided: bool) -> None:
        self._factors, self._low, self._high, self._one_sided = factors, low, high, one_sided

    def __call__(self, bits: np.random.SFC64, temperatures: IntArray) -> NDArray[np.floating]:
        rng = np.random.Generator(bits)
        distances = rng.uniform(self._low, self._high, (len(temperatures), 1, 1))
        values = rng.random((len(temperatures), len(self._factors), 3))
        return np.asarray(distances * self._factors[:, None] * (values if self._one_sided else 2 * values - 1))
