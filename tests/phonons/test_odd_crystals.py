"""Thermal covariances of crystals that are awkward in one way each, against one dense diagonalisation in SI units."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from ase.geometry import cellpar_to_cell
from scipy.constants import Boltzmann, atomic_mass, elementary_charge, hbar

from activeph.phonons.draw import HarmonicDraw
from activeph.phonons.fit import full_force_constants
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import covariance, thermal_amplitudes
from activeph.records import Configuration, FloatArray, System
from activeph.systems import finite_displacements, with_force_constants
from activeph.systems.load import make_system

RHOMBOHEDRAL = cellpar_to_cell([4.75, 4.75, 4.75, 57.2, 57.2, 57.2])
FACE_CENTRED = 2.025 * (np.ones((3, 3)) - np.eye(3))
X = 0.0408  # of the H2 molecule on the threefold axis
MOLECULES = [[X, X, X], [0.5 - X, -X, 0.5 + X], [-X, 0.5 + X, 0.5 - X], [0.5 + X, 0.5 - X, -X]]
CASES = {  # numbers, cell, fractions, supercell, masses
    "rhombohedral cell, mixed vectors": (
        [83, 83, 34],
        RHOMBOHEDRAL,
        [[0.2339] * 3, [-0.2339] * 3, [0, 0, 0]],
        [[2, 1, 0], [0, 2, -1], [1, 0, 2]],
        {},
    ),
    "the same, sheared": (
        [83, 83, 34],
        RHOMBOHEDRAL,
        [[0.2339] * 3, [-0.2339] * 3, [0, 0, 0]],
        [[2, -6, 9], [0, 2, -5], [0, 0, 1]],
        {},
    ),
    "one atom, odd supercell": ([13], FACE_CENTRED, [[0, 0, 0]], [3, 3, 3], {}),
    "isotopes": (
        [11, 17],
        2 * FACE_CENTRED / 1.45,
        [[0, 0, 0], [0.5] * 3],
        [[-2, 2, 2], [1, -1, 1], [1, 1, -1]],
        {11: 22.5, 17: 36.966},
    ),
    "molecules of H2": (
        [1] * 8,
        np.eye(3) * 5.3,
        [*MOLECULES, *(-np.array(MOLECULES)).tolist()],
        [1, 1, 1],
        {},
    ),
}


def _springs(cell: Configuration) -> FloatArray:
    """Return force constants [N, N, 3, 3] of springs between all images closer than 4.6 Å; bonds of H2 are stiff."""
    reach = np.ceil(4.6 * np.linalg.norm(np.linalg.inv(cell.cell), axis=0)).astype(int) + 1
    images = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach]))) @ cell.cell
    constants = np.zeros((len(cell.numbers), len(cell.numbers), 3, 3))
    for i, place in enumerate(cell.positions):
        vectors = cell.positions[None] + images[:, None] - place
        lengths = np.linalg.norm(vectors, axis=2)
        for image, j in np.argwhere((lengths < 4.6) & (lengths > 1e-6)):
            along = vectors[image, j] / lengths[image, j]
            size = 35.0 if lengths[image, j] < 1 else 3.0 * (2 / lengths[image, j]) ** 6
            matrix = size * (0.9 * np.outer(along, along) + 0.1 * np.eye(3))
            constants[i, j] -= matrix
            constants[i, i] += matrix
    return constants


def _system(name: str) -> tuple[System, FloatArray]:
    numbers, cell, fractions, supercell, masses = CASES[name]
    system = make_system("odd", Configuration(np.array(numbers), np.array(fractions) @ cell, cell), supercell)
    own = [masses.get(Z, mass) for Z, mass in zip(system.supercell.numbers.tolist(), system.masses, strict=True)]
    full = _springs(system.supercell)
    return dataclasses.replace(system, masses=np.array(own), force_constants=full[system.primitive_atoms]), full


def _dense(constants: FloatArray, masses: FloatArray, temperature: float, statistics: str) -> FloatArray:
    """Return the covariance [3N, 3N] in Å² from all 3N modes but the three of lowest frequency, in SI units."""
    n = len(masses)
    weighted = constants / np.sqrt(np.outer(masses, masses))[:, :, None, None]
    squares, vectors = np.linalg.eigh(weighted.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n))
    assert np.abs(squares[:3]).max() < 1e-9 < squares[3]
    omega = np.sqrt(squares[3:] * elementary_charge * 1e20 / atomic_mass)  # rad/s
    variance = Boltzmann * temperature / omega**2
    if statistics == "quantum":
        variance = hbar / (2 * omega) / np.tanh(hbar * omega / (2 * Boltzmann * temperature))
    root = vectors[:, 3:] * np.sqrt(variance / atomic_mass) * 1e10 / np.repeat(np.sqrt(masses), 3)[:, None]
    return np.asarray(root @ root.T)


@pytest.mark.parametrize("name", CASES)
def test_covariance_is_that_of_a_dense_diagonalisation(name: str) -> None:
    system, full = _system(name)
    modes = harmonic_modes(system)
    for temperature, statistics in ((4.0, "quantum"), (300.0, "quantum"), (300.0, "classical")):
        expected = _dense(full, system.masses, temperature, statistics)
        amplitudes = thermal_amplitudes(modes, temperature, statistics)
        np.testing.assert_allclose(covariance(modes, amplitudes), expected, atol=1e-8 * np.abs(expected).max())
    n = 20_000
    u = HarmonicDraw([(modes, amplitudes)])(np.random.SFC64(5), np.zeros(n, dtype=int)).reshape(n, -1).astype(float)
    spread = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n)
    assert (np.abs(u.T @ u / n - expected) / spread).max() < 6


@pytest.mark.parametrize("name", CASES)
def test_force_constants_come_back_from_displaced_cells(name: str) -> None:
    system, full = _system(name)
    cells = finite_displacements(system)
    u = np.array([one.positions - system.supercell.positions for one in cells])
    found = with_force_constants(system, -np.einsum("ijab,sjb->sia", full, u)).force_constants
    assert found is not None
    np.testing.assert_allclose(full_force_constants(system, found), full, atol=1e-10 * np.abs(full).max())
