"""Thermal displacements against closed forms and against phonopy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeph.errors import InputError
from activeph.phonons.draw import HarmonicDraw, standard_normals
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import (
    covariance,
    displacement_tensors,
    harmonic_free_energy,
    rms_per_species,
    thermal_amplitudes,
    usable_frequencies,
    variances,
)
from activeph.phonons.units import BOLTZMANN, HBAR_OMEGA, THZ_PER_ROOT, VARIANCE_UNIT
from activeph.systems.load import phonopy_of

NAMES = ["perovskite", "wurtzite", "triclinic", "slab", "chain"]


@pytest.mark.parametrize("statistics", ["quantum", "classical"])
@pytest.mark.parametrize("name", NAMES)
def test_covariance_equals_that_of_phonopy(crystal, name: str, statistics: str) -> None:
    system = crystal(name)
    modes = harmonic_modes(system)
    ours = covariance(modes, thermal_amplitudes(modes, 300.0, statistics))
    phonon = phonopy_of(system)
    phonon.init_random_displacements(dist_func=statistics)
    phonon.random_displacements.run_correlation_matrix(300.0)
    theirs = phonon.random_displacements.uu.transpose(0, 2, 1, 3).reshape(ours.shape)
    np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("name", NAMES)
def test_sampled_covariance_is_the_analytic_one(crystal, name: str) -> None:
    modes = harmonic_modes(crystal(name))
    amplitudes = thermal_amplitudes(modes, 300.0)
    expected = covariance(modes, amplitudes)
    n = 40_000
    u = HarmonicDraw([(modes, amplitudes)])(np.random.SFC64(11), np.zeros(n, dtype=int)).reshape(n, -1).astype(float)
    sampled = u.T @ u / n
    diagonal = np.diag(expected)
    errors = (sampled - expected) / np.sqrt((np.outer(diagonal, diagonal) + expected**2) / n)
    assert np.abs(errors).max() < 6
    assert 0.9 < errors.std() < 1.1
    assert np.abs(u.mean(axis=0) / np.sqrt(diagonal / n)).max() < 6


@pytest.mark.parametrize("name", NAMES)
def test_rigid_translation_is_absent(crystal, name: str) -> None:
    system = crystal(name)
    modes = harmonic_modes(system)
    u = HarmonicDraw([(modes, thermal_amplitudes(modes, 600.0))])(np.random.SFC64(1), np.zeros(64, dtype=int))
    centre = np.einsum("n,bni->bi", system.masses, u) / system.masses.sum()
    assert np.abs(centre).max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_q_and_one_matrix_draw_the_same(crystal, name: str) -> None:
    modes = harmonic_modes(crystal(name))
    amplitudes = [(modes, thermal_amplitudes(modes, T)) for T in (0.0, 300.0)]
    turn = np.arange(50) % 2
    dense = HarmonicDraw(amplitudes, dense=True)(np.random.SFC64(5), turn)
    blocks = HarmonicDraw(amplitudes, dense=False)(np.random.SFC64(5), turn)
    np.testing.assert_allclose(dense, blocks, atol=2e-6 * np.abs(dense).max())


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_draw_equal_displacements_whatever_the_eigensolver_returns(crystal, name: str) -> None:
    import dataclasses

    system = crystal(name)
    noise = 1 + 1e-13 * np.random.default_rng(0).normal(size=system.force_constants.shape)
    rounded = dataclasses.replace(system, force_constants=system.force_constants * noise)
    drawn = []
    for one in (system, rounded):
        modes = harmonic_modes(one)
        ensemble = (modes, thermal_amplitudes(modes, 300.0))
        drawn.append(HarmonicDraw([ensemble])(np.random.SFC64(3), np.zeros(20, dtype=int)))
    np.testing.assert_allclose(drawn[0], drawn[1], atol=3e-6 * np.abs(drawn[0]).max())


@pytest.mark.parametrize("name", NAMES)
def test_tensors_and_species_are_the_diagonal_of_the_covariance(crystal, name: str) -> None:
    system = crystal(name)
    modes = harmonic_modes(system)
    amplitudes = thermal_amplitudes(modes, 450.0)
    full = covariance(modes, amplitudes).reshape(len(system.masses), 3, -1, 3)
    tensors = displacement_tensors(modes, amplitudes)
    for site, atoms in enumerate(modes.lattice.atoms):
        for atom in atoms:
            np.testing.assert_allclose(full[atom, :, atom], tensors[site], atol=1e-10)
    numbers = system.supercell.numbers
    squares = np.trace(np.array([full[i, :, i] for i in range(len(numbers))]), axis1=1, axis2=2)
    for Z, rms in rms_per_species(modes, amplitudes, numbers[system.primitive_atoms]).items():
        assert rms == pytest.approx(np.sqrt(squares[numbers == Z].mean()), rel=1e-10)


def test_equipartition_fixes_the_units() -> None:
    # One spring: classical ⟨x²⟩ = kT / k whatever the mass; quantum at T = 0: ħ / (2 √(k μ)).
    k, mass = 5.0, 40.0  # eV/Å², amu
    frequency = np.array([np.sqrt(k / mass) * THZ_PER_ROOT])
    assert variances(frequency, 300.0, "classical")[0] / mass == pytest.approx(BOLTZMANN * 300 / k, rel=1e-8)
    hbar_squared = 0.0041801593  # ħ² / amu in eV Å² (CODATA)
    assert variances(frequency, 0.0)[0] / mass == pytest.approx(np.sqrt(hbar_squared / (k * mass)) / 2, rel=1e-6)
    assert frequency[0] == pytest.approx(5.527207, rel=1e-6)  # 15.633302 THz √(k/m)


@given(frequency=st.floats(0.05, 40), temperature=st.floats(1, 3000))
def test_quantum_amplitudes_lie_between_their_limits(frequency: float, temperature: float) -> None:
    f = np.array([frequency])
    quantum, classical = variances(f, temperature)[0], variances(f, temperature, "classical")[0]
    zero_point = VARIANCE_UNIT / (2 * frequency)
    assert quantum >= max(classical, zero_point) * (1 - 1e-12)
    assert quantum <= (classical + zero_point) * (1 + 1e-12)
    x = HBAR_OMEGA * frequency / (BOLTZMANN * temperature)
    if x < 0.1:  # coth(x/2) = 2/x (1 + x²/12 - ...)
        assert quantum / classical == pytest.approx(1 + x**2 / 12, abs=x**4)
    if x > 50:
        assert quantum == pytest.approx(zero_point, rel=1e-12)
    assert variances(f, 0.0)[0] == pytest.approx(zero_point)
    assert variances(f, 0.0, "classical")[0] == 0


@given(frequency=st.floats(0.3, 30), temperature=st.floats(50, 1500))
def test_free_energy_derives_to_the_amplitude(frequency: float, temperature: float) -> None:
    # dF/d(k) = ⟨x²⟩/2 with k = ω²: the free energy and the variance must agree.
    step = 1e-4 * frequency
    for statistics in ("quantum", "classical"):
        high, low = (harmonic_free_energy(np.array([frequency + s]), temperature, statistics) for s in (step, -step))
        curvature = ((frequency + step) ** 2 - (frequency - step) ** 2) / THZ_PER_ROOT**2
        expected = variances(np.array([frequency]), temperature, statistics)[0] / 2
        assert (high - low) / curvature == pytest.approx(expected, rel=1e-5)


def test_normals_are_normal_and_independent() -> None:
    from scipy import stats

    values = standard_normals(np.random.SFC64(2), 2001, 333)
    assert values.shape == (2001, 333)
    assert values.dtype == np.float32
    assert stats.kstest(values.ravel().astype(float), "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(values.ravel())) < 0.02
    correlation = np.corrcoef(values[:, :40].T) - np.eye(40)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(2001)
    halves = values.ravel()[: values.size // 2], values.ravel()[values.size // 2 : values.size // 2 * 2]
    assert abs(np.corrcoef(*halves)[0, 1]) < 5 / np.sqrt(values.size / 2)
    assert abs(np.corrcoef(halves[0] ** 2, halves[1] ** 2)[0, 1]) < 5 / np.sqrt(values.size / 2)


class TestImaginaryModes:
    FREQUENCIES = np.array([-1.9, -0.005, 0.004, 0.2, 3.0])

    def test_refuse_lists_modes_and_choices(self) -> None:
        with pytest.raises(InputError, match=r"got 3 imaginary .*-1\.90.*skip, absolute or floor.*renormalise"):
            usable_frequencies(self.FREQUENCIES, "refuse")
        np.testing.assert_array_equal(usable_frequencies(self.FREQUENCIES[3:], "refuse"), [0.2, 3.0])

    def test_skip_leaves_them_still(self) -> None:
        usable = usable_frequencies(self.FREQUENCIES, "skip")
        np.testing.assert_array_equal(usable, [np.inf, np.inf, np.inf, 0.2, 3.0])
        assert variances(usable, 300.0)[:3].tolist() == [0, 0, 0]
        assert variances(usable, 300.0, "classical")[:3].tolist() == [0, 0, 0]

    def test_absolute_is_that_of_phonopy(self) -> None:
        np.testing.assert_array_equal(usable_frequencies(self.FREQUENCIES, "absolute"), [1.9, np.inf, np.inf, 0.2, 3.0])

    def test_floor_lifts(self) -> None:
        np.testing.assert_array_equal(usable_frequencies(self.FREQUENCIES, "floor", 0.5), [0.5, 0.5, 0.5, 0.5, 3.0])

    def test_absolute_covariance_equals_that_of_phonopy_for_an_unstable_crystal(self, crystal) -> None:
        system = crystal("perovskite", across=-0.35)
        modes = harmonic_modes(system)
        assert modes.frequencies.min() < -0.5
        ours = covariance(modes, thermal_amplitudes(modes, 300.0, policy="absolute"))
        phonon = phonopy_of(system)
        phonon.init_random_displacements()
        phonon.random_displacements.run_correlation_matrix(300.0)
        theirs = phonon.random_displacements.uu.transpose(0, 2, 1, 3).reshape(ours.shape)
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())
        with pytest.raises(InputError, match="imaginary"):
            thermal_amplitudes(modes, 300.0)
