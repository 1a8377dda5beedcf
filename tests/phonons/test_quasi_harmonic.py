from __future__ import annotations

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.quasi_harmonic import GPA, VolumeSeries, polynomial_weights
from activeph.phonons.units import BOLTZMANN, HBAR_OMEGA


def _birch(volumes: np.ndarray, least: float, bulk: float, slope: float) -> np.ndarray:
    """Return the energies of F. Birch, Phys. Rev. 71, 809 (1947), eq. for E(V); ``bulk`` in GPa."""
    x = (least / volumes) ** (2 / 3)
    return 9 * least * bulk / GPA / 16 * ((x - 1) ** 3 * slope + (x - 1) ** 2 * (6 - 4 * x))


def test_a_birch_murnaghan_crystal_of_stiff_modes_is_found_exactly() -> None:
    volumes = np.array([95.0, 98.0, 100.0, 103.0, 107.0])
    series = VolumeSeries(volumes, _birch(volumes, 101.3, 88.0, 4.7), [np.full(3, 5.0)] * 5)
    found = series.equilibrium(300.0)
    assert found is not None
    assert found.volume == pytest.approx(101.3, rel=1e-9)
    assert found.bulk_modulus == pytest.approx(88.0, rel=1e-7)
    assert found.misfit < 1e-12
    vibration = 3 * (2.5 * HBAR_OMEGA + BOLTZMANN * 300 * np.log1p(-np.exp(-5 * HBAR_OMEGA / BOLTZMANN / 300)))
    assert found.free_energy == pytest.approx(vibration, abs=1e-12)


def test_classical_expansion_is_that_of_grueneisen() -> None:
    """Classically F_vib = -n kT γ ln V + const for ω ~ V^-γ: the minimum solves P(V) = n kT γ / V."""
    volumes = np.linspace(98, 106, 9)
    gamma, n, T = 2.0, 3, 200.0
    frequencies = [np.full(n, 4.0 * (100 / V) ** gamma) for V in volumes]
    series = VolumeSeries(volumes, _birch(volumes, 100.0, 60.0, 4.0), frequencies, "classical")
    found = series.equilibrium(T)
    assert found is not None
    fine = np.linspace(99, 105, 600_001)
    energy = _birch(fine, 100.0, 60.0, 4.0) - n * BOLTZMANN * T * gamma * np.log(fine)
    assert found.volume == pytest.approx(fine[energy.argmin()], abs=1e-3)


def test_zero_point_motion_expands_the_crystal_too() -> None:
    volumes = np.linspace(98, 106, 6)
    frequencies = [np.full(3, 10.0 * (100 / V) ** 2) for V in volumes]
    energies = _birch(volumes, 100.0, 60.0, 4.0)
    quantum, classical = (
        VolumeSeries(volumes, energies, frequencies, kind).equilibrium(1e-3)  # type: ignore[arg-type]
        for kind in ("quantum", "classical")
    )
    assert quantum is not None
    assert classical is not None
    assert classical.volume == pytest.approx(100.0, abs=1e-3)
    assert quantum.volume > 100.2


def test_minima_outside_are_none_and_unstable_volumes_are_left_out() -> None:
    volumes = np.linspace(98, 106, 6)
    energies = _birch(volumes, 110.0, 60.0, 4.0)
    assert VolumeSeries(volumes, energies, [np.full(3, 5.0)] * 6).equilibrium(300.0) is None
    energies = _birch(volumes, 100.0, 60.0, 4.0)
    frequencies = [np.full(3, 5.0)] * 5 + [np.array([-1.0, 5.0, 5.0])]
    series = VolumeSeries(volumes, energies, frequencies)
    assert list(series.stable) == [0, 1, 2, 3, 4]
    found = series.equilibrium(0.0)
    assert found is not None
    assert found.volume == pytest.approx(100.0, rel=1e-8)
    with pytest.raises(InputError, match="at least 4 volumes without imaginary modes but got 3 of 6"):
        VolumeSeries(volumes, energies, frequencies[:3] + [frequencies[-1]] * 3).equilibrium(300.0)


def test_an_instability_in_between_is_refused() -> None:
    volumes = np.linspace(98, 106, 6)
    frequencies = [np.full(3, 5.0), np.full(3, 5.0), np.full(3, -1.5), *[np.full(3, 5.0)] * 3]
    series = VolumeSeries(volumes, _birch(volumes, 100.0, 60.0, 4.0), frequencies)
    with pytest.raises(InputError, match="real vibrations at all volumes between .* got -1.50 THz at 101.2"):
        series.equilibrium(300.0)


def test_arrays_are_interpolated_by_cubics() -> None:
    places = np.array([-0.01, 0.0, 0.01, 0.02, 0.04])
    matrix = np.arange(6.0).reshape(2, 3)
    values = np.array([matrix + 3 * s - 40 * s**2 * matrix + 500 * s**3 for s in places])
    s = 0.0137
    found = np.tensordot(polynomial_weights(places, s), values, axes=1)
    np.testing.assert_allclose(found, matrix + 3 * s - 40 * s**2 * matrix + 500 * s**3)
