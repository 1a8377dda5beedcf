"""Self-consistent phonons of a crystal of double wells, against its closed form.

Atoms B sit in cages of eight atoms A (CsCl lattice). The potential is springs between neighbouring A and, for the
displacement y of each B from the mean of its cage, the wells -a/2 y² + b/4 y⁴ in each direction: translation
invariant, cubic, and harmonically unstable. Classically y and the cage separate (the change of variables has unit
Jacobian), so the self-consistent variance is that of one well, k_eff = -a + 3 b σ² with σ² = kT/k_eff, and the true
free energy is a one-dimensional integral.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from activeph.phonons.modes import harmonic_modes, normal_modes
from activeph.phonons.renormalise import Settings, renormalise
from activeph.phonons.thermal import covariance, harmonic_free_energy, thermal_amplitudes
from activeph.phonons.units import BOLTZMANN
from activeph.records import Configuration, System
from activeph.systems.load import make_system

A, B, SPRING = 2.0, 30.0, 4.0  # eV/Å², eV/Å⁴, eV/Å²
TEMPERATURE = 400.0


class DoubleWells:
    """The model crystal in a 2x2x2 supercell of 16 atoms."""

    def __init__(self) -> None:
        cell = np.eye(3) * 4.0
        unit = Configuration(np.array([55, 17]), np.array([[0.0] * 3, [2.0] * 3]), cell)
        self.system = make_system("wells", unit, [2, 2, 2])
        positions, box = self.system.supercell.positions, self.system.supercell.cell[0, 0]
        offsets = positions[:, None] - positions[None]
        offsets -= box * np.rint(offsets / box)
        lengths = np.linalg.norm(offsets, axis=2)
        heavy = self.system.supercell.numbers == 55
        self.cages = np.zeros((8, 16))  # y = cages @ u
        for row, light in enumerate(np.flatnonzero(~heavy)):
            self.cages[row, light] = 1
            self.cages[row, heavy & (lengths[light] < 3.6)] -= 1 / 8
        # In a 2x2x2 box each A neighbour appears on both sides: one spring each, doubled.
        self.laplacian = np.zeros((16, 16))
        for i in np.flatnonzero(heavy):
            for j in np.flatnonzero(heavy & (np.abs(lengths[i] - 4.0) < 0.1)):
                self.laplacian[i, j] -= 2 * SPRING
                self.laplacian[i, i] += 2 * SPRING

    def answer(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y = np.einsum("bn,snx->sbx", self.cages, u)
        energies = 0.5 * np.einsum("snx,nm,smx->s", u, self.laplacian, u)
        energies += np.sum(-A / 2 * y**2 + B / 4 * y**4, axis=(1, 2))
        forces = -np.einsum("nm,smx->snx", self.laplacian, u)
        forces -= np.einsum("bn,sbx->snx", self.cages, -A * y + B * y**3)
        return u, forces, energies

    def harmonic(self, stiffness: float) -> System:
        """The crystal whose wells are springs of the given stiffness."""
        matrix = self.laplacian + stiffness * self.cages.T @ self.cages
        rows = matrix[self.system.primitive_atoms]
        return dataclasses.replace(self.system, force_constants=rows[:, :, None, None] * np.eye(3))


@pytest.fixture(scope="module")
def wells() -> DoubleWells:
    return DoubleWells()


def _variance_of_y(wells: DoubleWells, system: System, statistics: str) -> float:
    modes = harmonic_modes(system)
    full = covariance(modes, thermal_amplitudes(modes, TEMPERATURE, statistics)).reshape(16, 3, 16, 3)[:, 0, :, 0]
    return float((wells.cages @ full @ wells.cages.T)[0, 0])


def _self_consistent(wells: DoubleWells, statistics: str) -> float:
    stiffness = 1.0
    for _ in range(300):
        stiffness += 0.3 * (-A + 3 * B * _variance_of_y(wells, wells.harmonic(stiffness), statistics) - stiffness)
    return stiffness


def test_the_model_is_unstable_and_its_classical_answer_closed(wells: DoubleWells) -> None:
    assert normal_modes(wells.harmonic(-A)).frequencies[0] < -2
    kt = BOLTZMANN * TEMPERATURE
    variance = (A + np.sqrt(A**2 + 12 * B * kt)) / (6 * B)
    assert _self_consistent(wells, "classical") == pytest.approx(kt / variance, rel=1e-6)


@pytest.mark.parametrize("statistics", ["classical", "quantum"])
def test_rounds_of_forces_find_the_self_consistent_phonons(wells: DoubleWells, statistics: str) -> None:
    settings = Settings(draws=64, statistics=statistics, frequency_tolerance=0.08)
    start = wells.harmonic(-A)
    result = renormalise(start, TEMPERATURE, wells.answer, settings, seed=1)
    assert result.converged
    truth = normal_modes(wells.harmonic(_self_consistent(wells, statistics)))
    last = result.rounds[-1]
    assert truth.frequencies[0] > 0.5
    assert np.isnan(result.rounds[0].frequency_change)  # nothing before the first
    errors = np.abs(last.frequencies - truth.frequencies)
    assert np.sqrt(np.mean(errors**2)) < 2 * np.sqrt(np.mean(last.frequency_errors**2))
    assert errors.max() < 0.2
    assert errors.mean() < 0.05
    # The free energy is stationary at the answer, so it is far better than the frequencies.
    stiffness = _self_consistent(wells, statistics)
    own = harmonic_free_energy(truth.frequencies, TEMPERATURE, statistics)
    variance = _variance_of_y(wells, wells.harmonic(stiffness), statistics)
    wells_energy = 24 * (-A / 2 * variance + 3 * B / 4 * variance**2 - stiffness / 2 * variance)
    assert last.free_energy * 16 == pytest.approx(own + wells_energy, abs=16 * 5 * last.free_energy_error + 1e-4)


def test_the_free_energy_bounds_the_true_one(wells: DoubleWells) -> None:
    # Gibbs-Bogoliubov: F_variational >= F_true; per well and direction, classically, a one-dimensional integral.
    kt = BOLTZMANN * TEMPERATURE
    stiffness = _self_consistent(wells, "classical")
    y = np.linspace(-2, 2, 200_001)
    true = -kt * np.log(np.trapezoid(np.exp(-(-A / 2 * y**2 + B / 4 * y**4) / kt), y))
    variance = kt / stiffness
    gaussian = -0.5 * kt * np.log(2 * np.pi * variance)
    variational = gaussian - A / 2 * variance + 3 * B / 4 * variance**2 - kt / 2
    assert 0 < variational - true < 0.05
    settings = Settings(draws=64, statistics="classical", max_rounds=5)
    result = renormalise(wells.harmonic(-A), TEMPERATURE, wells.answer, settings, seed=2)
    shared = harmonic_free_energy(normal_modes(wells.harmonic(stiffness)).frequencies, TEMPERATURE, "classical")
    expected = shared + 24 * (variational - gaussian)
    last = result.rounds[-1]
    assert last.free_energy * 16 == pytest.approx(expected, abs=16 * 5 * last.free_energy_error + 1e-4)


def test_older_draws_are_reweighted(wells: DoubleWells) -> None:
    settings = Settings(draws=16, statistics="classical", max_rounds=8, frequency_tolerance=0, energy_tolerance=0)
    result = renormalise(wells.harmonic(-A), TEMPERATURE, wells.answer, settings, seed=3)
    last = result.rounds[-1]
    assert last.n_labels == 128
    assert last.effective_labels > 64  # several times what the last round drew
    assert not result.converged  # nothing stands stiller than tolerance zero allows


def test_a_harmonic_crystal_is_its_own_answer(wells: DoubleWells) -> None:
    truth = wells.harmonic(3.0)

    def linear(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        matrix = wells.laplacian + 3.0 * wells.cages.T @ wells.cages
        forces = -np.einsum("nm,smx->snx", matrix, u)
        return u, forces, -0.5 * np.einsum("snx,snx->s", u, forces)

    result = renormalise(wells.harmonic(1.0), 300.0, linear, Settings(draws=4, max_rounds=6), seed=0)
    assert result.converged
    np.testing.assert_allclose(result.effective.force_constants, truth.force_constants, atol=1e-5)
    own = harmonic_free_energy(normal_modes(truth).frequencies, 300.0)
    assert result.rounds[-1].free_energy * 16 == pytest.approx(own, abs=1e-6)


def test_failed_labels_are_left_out_and_the_course_is_reproducible(wells: DoubleWells) -> None:
    def lossy(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        u, forces, energies = wells.answer(u)
        return u[1:], forces[1:], energies[1:]

    settings = Settings(draws=8, max_rounds=3)
    first = renormalise(wells.harmonic(-A), TEMPERATURE, lossy, settings, seed=5)
    again = renormalise(wells.harmonic(-A), TEMPERATURE, lossy, settings, seed=5)
    assert first.rounds[-1].n_labels == 21
    assert np.array_equal(first.effective.force_constants, again.effective.force_constants)
    other = renormalise(wells.harmonic(-A), TEMPERATURE, lossy, settings, seed=6)
    assert not np.array_equal(first.effective.force_constants, other.effective.force_constants)
