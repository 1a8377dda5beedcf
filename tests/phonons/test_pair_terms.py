"""Pair terms: forces against energies, Gaussian means against sampling, and what they save a renormalisation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from activeph.phonons import moments as moments_module
from activeph.phonons.draw import HarmonicDraw
from activeph.phonons.fit import ForceConstantFit
from activeph.phonons.gaussian import ThermalGaussian
from activeph.phonons.modes import harmonic_modes, normal_modes
from activeph.phonons.pair_terms import PairTerms
from activeph.phonons.renormalise import Settings, renormalise
from activeph.records import Configuration, System
from activeph.systems.load import make_system

TEMPERATURE = 500.0
DEPTH, WIDTH = 0.12, 1.4  # eV, 1/Å


class Morse:
    """CsCl with Morse bonds to the 8 unlike and 6 like neighbours: pairs, but of no form that pair terms can take."""

    def __init__(self) -> None:
        unit = Configuration(np.array([55, 17]), np.array([[0.0] * 3, [2.0] * 3]), np.eye(3) * 4.0)
        self.system = make_system("CsCl", unit, [2, 2, 2])
        cell = self.system.supercell
        shifts = 8.0 * np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
        vectors = cell.positions[None, :, None] - cell.positions[:, None, None] + shifts
        lengths = np.linalg.norm(vectors, axis=3)
        self.i, self.j, _ = rows = np.nonzero((lengths > 1) & (lengths < 4.1))
        self.vectors = vectors[rows]
        self.rest = np.linalg.norm(self.vectors, axis=1)

    def answer(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bonds = self.vectors + u[:, self.j] - u[:, self.i]
        lengths = np.linalg.norm(bonds, axis=2)
        decay = np.exp(-WIDTH * (lengths - self.rest))
        slopes = 2 * DEPTH * WIDTH * (1 - decay) * decay
        forces = np.zeros_like(u)
        np.add.at(forces.transpose(1, 0, 2), self.i, ((slopes / lengths)[..., None] * bonds).transpose(1, 0, 2))
        return u, forces, 0.5 * DEPTH * np.sum((1 - decay) ** 2, axis=1)


@pytest.fixture(scope="module")
def morse() -> Morse:
    return Morse()


@pytest.fixture(scope="module")
def start(morse: Morse) -> System:
    rng = np.random.default_rng(0)
    small = 0.01 * rng.standard_normal((40, 16, 3))
    _, forces, _ = morse.answer(small)
    constants = ForceConstantFit(morse.system).solve(small, forces)
    return dataclasses.replace(morse.system, force_constants=constants)


def _gaussian(system: System) -> ThermalGaussian:
    return ThermalGaussian(harmonic_modes(system), system.masses, TEMPERATURE, "classical", 0.05)


def _draws(gaussian: ThermalGaussian, n: int, seed: int) -> np.ndarray:
    draw = HarmonicDraw([(gaussian.modes, gaussian.amplitudes)])
    return draw(np.random.SFC64(seed), np.zeros(n, dtype=np.int64)).astype(np.float64)


def test_forces_are_the_derivatives_of_the_energies(morse: Morse) -> None:
    terms = PairTerms(morse.system)
    u = 0.3 * np.random.default_rng(1).standard_normal((1, 16, 3))
    _, forces = terms.evaluate(u)
    step = np.zeros_like(u)
    for atom, direction in ((0, 0), (5, 1), (15, 2)):
        step[:] = 0
        step[0, atom, direction] = 1e-5
        higher, lower = (terms.evaluate(u + sign * step)[0][0] for sign in (1, -1))
        np.testing.assert_allclose(forces[0, atom, direction], -(higher - lower) / 2e-5, atol=1e-6)


def test_gaussian_means_agree_with_sampling(start: System) -> None:
    terms = PairTerms(start)
    gaussian = _gaussian(start)
    u = _draws(gaussian, 3000, 2)
    energies, forces = terms.evaluate(u)
    average = terms.average(gaussian.covariance())
    errors = energies.std(axis=0) / np.sqrt(len(u))
    assert np.all(np.abs(energies.mean(axis=0) - average.energies) < 5 * errors + 1e-6)
    # the regression of forces on displacements is the mean curvature (Stein's lemma)
    fit = ForceConstantFit(start)
    for term in range(0, terms.n_terms, 4):
        matrix, vector = fit.normal_equations(u, forces[..., term], np.ones(len(u)))
        sampled, exact = np.linalg.solve(matrix, vector), fit.parameters(average.constants[term])
        residual = np.mean(forces[..., term] ** 2) * forces[0, ..., term].size * len(u) - vector @ sampled
        noise = np.sqrt(np.diag(np.linalg.inv(matrix)) * residual / (forces[0, ..., term].size * len(u)))
        assert np.all(np.abs(sampled - exact) < 6 * noise + 1e-5 * np.abs(exact).max())


def test_pair_terms_save_labels_and_change_no_answer(
    morse: Morse, start: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = _self_consistent(morse, start)
    assert np.sqrt(np.mean((truth - normal_modes(start).frequencies) ** 2)) > 0.1  # not the harmonic crystal

    def error() -> tuple[float, float]:
        settings = Settings(draws=8, max_rounds=3, statistics="classical")
        last = renormalise(start, TEMPERATURE, morse.answer, settings, seed=3).rounds[-1]
        return float(np.sqrt(np.mean((last.frequencies - truth) ** 2))), last.explained

    with_pairs, explained = error()
    monkeypatch.setattr(moments_module, "WORTH", 0.0)
    without, harmonic = error()
    assert explained > 0.95 > harmonic
    assert with_pairs < 0.5 * without
    assert with_pairs < 0.03


def _self_consistent(morse: Morse, start: System) -> np.ndarray:
    """Frequencies by brute force: many fresh draws in each of many rounds, averaged over the last ones."""
    fit, system = ForceConstantFit(start), start
    parameters, found = fit.parameters(start.force_constants), []
    for number in range(24):
        u, forces, _ = morse.answer(_draws(_gaussian(system), 1500, 100 + number))
        parameters = parameters + 0.5 * (fit.parameters(fit.solve(u, forces)) - parameters)
        system = dataclasses.replace(start, force_constants=fit.constants(parameters))
        found.append(normal_modes(system).frequencies)
    return np.mean(found[12:], axis=0)
