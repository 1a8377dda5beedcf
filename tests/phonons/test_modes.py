from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.fit import full_force_constants
from activeph.phonons.modes import degenerate_sets, harmonic_modes, normal_modes, rebuilt
from activeph.phonons.units import THZ_PER_ROOT
from activeph.records import Configuration, System

NAMES = ["perovskite", "rocksalt", "wurtzite", "triclinic", "slab", "chain"]


def _dense_frequencies(system: System) -> np.ndarray:
    full = full_force_constants(system, system.force_constants)
    n = 3 * len(full)
    weights = np.repeat(np.sqrt(system.masses), 3)
    matrix = full.transpose(0, 2, 1, 3).reshape(n, n) / np.outer(weights, weights)
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    return np.sign(values) * np.sqrt(np.abs(values)) * THZ_PER_ROOT


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_q_give_the_dense_spectrum_less_three_translations(crystal, name: str) -> None:
    system = crystal(name)
    dense = _dense_frequencies(system)
    zero = np.argsort(np.abs(dense))[:3]
    assert np.abs(dense[zero]).max() < 1e-4
    np.testing.assert_allclose(normal_modes(system).frequencies, np.sort(np.delete(dense, zero)), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_orthonormal_eigenvectors_without_translation(crystal, name: str) -> None:
    system = crystal(name)
    modes = normal_modes(system)
    n = 3 * len(system.masses)
    assert modes.vectors.shape == (n, n - 3)
    np.testing.assert_allclose(modes.vectors.T @ modes.vectors, np.eye(n - 3), atol=1e-10)
    weights = np.repeat(np.sqrt(system.masses), 3)
    full = full_force_constants(system, system.force_constants).transpose(0, 2, 1, 3).reshape(n, n)
    values = np.sign(modes.frequencies) * (modes.frequencies / THZ_PER_ROOT) ** 2
    np.testing.assert_allclose(full / np.outer(weights, weights) @ modes.vectors, modes.vectors * values, atol=1e-8)
    rigid = np.kron(np.sqrt(system.masses)[:, None], np.eye(3))
    np.testing.assert_allclose(rigid.T @ modes.vectors, 0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_frequencies_equal_those_of_phonopy(crystal, name: str) -> None:
    from activeph.systems.load import phonopy_of

    system = crystal(name)
    phonon = phonopy_of(system)
    modes = harmonic_modes(system)
    for block in modes.blocks:
        phonon.run_qpoints([block.q_point])
        theirs = np.sort(phonon.qpoints.frequencies[0])
        if not block.q_point.any():
            theirs = np.delete(theirs, np.argsort(np.abs(theirs))[:3])
        np.testing.assert_allclose(np.sort(block.frequencies)[:: len(block.columns)], theirs, rtol=1e-6, atol=1e-5)


def test_diatomic_chain_has_its_closed_form() -> None:
    k, a, heavy, light, n = 4.0, 5.0, 80.0, 23.0, 6
    cell = np.diag([a, 20.0, 20.0])
    sites = np.array([[0.0, 0, 0], [a / 2, 0, 0]])
    positions = np.concatenate([sites + [i * a, 0, 0] for i in range(n)])
    constants = np.zeros((2, 2 * n, 3, 3))
    for site in (0, 1):
        constants[site, site, 0, 0] = 2 * k
        for neighbour in (site - 1, site + 1):
            constants[site, neighbour % (2 * n), 0, 0] -= k
    system = System(
        "chain",
        Configuration(np.array([35, 11]), sites, cell),
        Configuration(np.tile([35, 11], n), positions, np.diag([n * a, 20.0, 20.0])),
        np.diag([n, 1, 1]),
        np.eye(3),
        np.tile([heavy, light], n),
        np.array([0, 1]),
        constants,
    )
    expected = []
    for q in 2 * np.pi * np.arange(n) / n:  # q a
        mean = k * (1 / heavy + 1 / light)
        root = np.sqrt(mean**2 - 4 * k**2 * np.sin(q / 2) ** 2 / (heavy * light))
        expected += [np.sqrt(max(mean - root, 0)), np.sqrt(mean + root)]
    along = np.abs(normal_modes(system).frequencies)
    along = np.sort(along[along > 1e-4])  # transverse directions have no springs
    np.testing.assert_allclose(along, np.sort(expected)[1:] * THZ_PER_ROOT, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_force_constants_are_rebuilt_from_their_modes(crystal, name: str) -> None:
    system = crystal(name)
    modes = harmonic_modes(system)
    np.testing.assert_allclose(rebuilt(system, modes, modes.frequencies), system.force_constants, atol=1e-9)
    lifted = np.maximum(modes.frequencies, 2.0)
    again = harmonic_modes(dataclasses.replace(system, force_constants=rebuilt(system, modes, lifted)))
    np.testing.assert_allclose(np.sort(again.frequencies), np.sort(lifted), atol=1e-7)


def test_coordinates_recover_a_displacement(crystal) -> None:
    system = crystal("wurtzite")
    modes = normal_modes(system)
    u = np.random.default_rng(3).normal(size=(4, len(system.masses), 3))
    u -= np.einsum("n,bni->bi", system.masses, u)[:, None] / system.masses.sum()
    back = (modes.coordinates(u, system.masses) @ modes.vectors.T).reshape(u.shape) / np.sqrt(system.masses)[:, None]
    np.testing.assert_allclose(back, u, atol=1e-10)


def test_degenerate_sets_are_those_of_symmetry(crystal) -> None:
    sets = degenerate_sets(normal_modes(crystal("rocksalt", [1, 1, 1])).frequencies)
    # Gamma: one optical triplet; three X points: LA, TA, LO, TO of 3, 6, 3, 6 modes.
    assert sorted(len(group) for group in sets) == [3, 3, 3, 6, 6]
    assert sorted(np.concatenate(sets)) == list(range(21))


def test_degenerate_sets_chain_neighbours_and_keep_indices() -> None:
    sets = degenerate_sets(np.array([2.0, 1.0, 2.0008, 1.0002, 5.0, 2.0016]))
    assert [group.tolist() for group in sets] == [[1, 3], [0, 2, 5], [4]]
    assert degenerate_sets(np.array([])) == []


def test_missing_or_misshaped_force_constants_are_refused(crystal) -> None:
    system = crystal("perovskite")
    with pytest.raises(InputError, match="must have force constants but got none"):
        harmonic_modes(dataclasses.replace(system, force_constants=None))
    with pytest.raises(InputError, match="must have shape"):
        harmonic_modes(dataclasses.replace(system, force_constants=system.force_constants[:, :-1]))
