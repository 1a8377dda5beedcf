from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.fit import ForceConstantFit, exchanged, full_force_constants
from activeph.records import System

Builder = Callable[..., System]
NAMES = ["perovskite", "rocksalt", "wurtzite", "triclinic", "slab", "chain"]


def _data(system: System, n: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    u = rng.normal(size=(n, *system.supercell.positions.shape)) * 0.05
    forces = -np.einsum("ijxy,bjy->bix", full_force_constants(system, system.force_constants), u)
    return u, forces + noise * rng.normal(size=forces.shape)


@pytest.mark.parametrize("name", NAMES)
def test_thermal_like_forces_give_the_springs_back(crystal: Builder, name: str) -> None:
    system = crystal(name)
    fit = ForceConstantFit(system)
    n = 3 + 2 * fit.n_parameters // len(system.masses)
    found = fit.solve(*_data(system, n))
    np.testing.assert_allclose(found, system.force_constants, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_projection_keeps_symmetric_constants_and_removes_the_rest(crystal: Builder, name: str) -> None:
    system = crystal(name)
    fit = ForceConstantFit(system)
    kept = fit.constants(fit.parameters(system.force_constants))
    np.testing.assert_allclose(kept, system.force_constants, atol=1e-9)
    rng = np.random.default_rng(0)
    noisy = system.force_constants + 0.05 * rng.normal(size=system.force_constants.shape)
    projected = fit.constants(fit.parameters(noisy))
    np.testing.assert_allclose(projected.sum(axis=1), 0, atol=1e-9)  # acoustic sum rule
    full = full_force_constants(system, projected)
    np.testing.assert_allclose(full, full.transpose(1, 0, 3, 2), atol=1e-9)  # order of the two atoms
    np.testing.assert_allclose(fit.constants(fit.parameters(projected)), projected, atol=1e-9)
    distance = np.linalg.norm(noisy - projected)
    assert distance <= np.linalg.norm(noisy - system.force_constants)  # the nearest symmetric ones


@pytest.mark.parametrize("name", NAMES)
def test_exchanging_the_atoms_of_each_pair(crystal: Builder, name: str) -> None:
    system = crystal(name)
    np.testing.assert_allclose(exchanged(system, system.force_constants), system.force_constants, atol=1e-12)
    noisy = system.force_constants + np.random.default_rng(1).normal(size=system.force_constants.shape)
    full = full_force_constants(system, noisy)
    truth = full.transpose(1, 0, 3, 2)[system.primitive_atoms]
    np.testing.assert_allclose(exchanged(system, noisy), truth, atol=1e-12)


def test_fit_equals_that_of_symfc(crystal: Builder) -> None:
    from symfc import Symfc
    from symfc.utils.utils import SymfcAtoms

    system = crystal("perovskite")
    u, forces = _data(system, 5, noise=0.1)
    cell = system.supercell
    atoms = SymfcAtoms(numbers=cell.numbers, cell=cell.cell, scaled_positions=cell.positions @ np.linalg.inv(cell.cell))
    symfc = Symfc(atoms)
    symfc.displacements, symfc.forces = u, forces
    theirs = symfc.run(max_order=2).force_constants[2]
    np.testing.assert_allclose(ForceConstantFit(system).solve(u, forces), theirs, atol=1e-8)


def test_weights_count_structures(crystal: Builder) -> None:
    system = crystal("perovskite")
    fit = ForceConstantFit(system)
    u, forces = _data(system, 4, noise=0.1)
    twice = fit.normal_equations(u[[0, 0, 1, 3]], forces[[0, 0, 1, 3]], np.ones(4))
    weighted = fit.normal_equations(u, forces, np.array([2.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(weighted[0], twice[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(weighted[1], twice[1], rtol=1e-10, atol=1e-12)


def test_too_few_structures_and_wrong_shapes_get_a_sentence(crystal: Builder) -> None:
    system = crystal("triclinic")
    fit = ForceConstantFit(system)
    u, forces = _data(system, 1)
    with pytest.raises(InputError, match="must be determined by the labelled structures but got 1 structures"):
        fit.solve(u, forces)
    with pytest.raises(InputError, match=r"must both have shape \(S, 18, 3\) but got"):
        fit.solve(u, forces[:, :5])
