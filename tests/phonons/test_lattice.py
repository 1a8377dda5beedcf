from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.errors import InputError
from activeph.phonons.lattice import primitive_lattice
from activeph.records import Configuration
from activeph.systems.load import make_system

MATRICES = (
    st.lists(st.integers(-2, 3), min_size=9, max_size=9)
    .map(lambda v: np.array(v).reshape(3, 3))
    .filter(lambda m: 2 <= round(np.linalg.det(m)) <= 12)
)


@settings(max_examples=30, deadline=None)
@given(matrix=MATRICES)
def test_any_supercell_matrix_gives_orthonormal_waves(matrix: np.ndarray) -> None:
    cell = np.array([[4.1, 0.3, -0.2], [0.5, 4.4, 0.7], [-0.6, 0.2, 5.0]])
    unit = Configuration(np.array([47, 16]), np.array([[0.02, 0.01, 0.05], [0.47, 0.55, 0.41]]) @ cell, cell)
    system = make_system("any", unit, matrix)
    lattice = primitive_lattice(system)
    n_cells = len(system.supercell.numbers) // len(system.primitive_atoms)
    assert lattice.n_cells == len(lattice.q_points) == n_cells
    assert sorted(lattice.atoms.ravel()) == list(range(len(system.supercell.numbers)))
    basis, groups = lattice.translation_basis()
    np.testing.assert_allclose(basis.T @ basis, np.eye(n_cells), atol=1e-12)
    assert np.concatenate(groups).tolist() == list(range(n_cells))
    # q fits into the supercell: a whole number of waves along each of its vectors.
    turns = lattice.q_points @ lattice.repeats.T
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-12)
    # phases are 2π q·l with the translations of every primitive atom, modulo 2π
    products = lattice.q_points @ lattice.translations.T
    np.testing.assert_allclose(np.exp(1j * lattice.phases), np.exp(2j * np.pi * products), atol=1e-10)


def test_translations_add_up(crystal) -> None:
    lattice = primitive_lattice(crystal("wurtzite"))
    for index, vector in enumerate(lattice.translations):
        shifted = lattice.shifted(vector)
        assert sorted(shifted) == list(range(lattice.n_cells))
        assert shifted[0] == index  # the first translation is zero
    assert lattice.translations[0].tolist() == [0, 0, 0]


def test_a_supercell_that_is_no_repetition_is_refused(crystal) -> None:
    import dataclasses

    system = crystal("perovskite")
    moved = system.supercell.positions.copy()
    moved[-1] += 0.5
    broken = dataclasses.replace(system, supercell=dataclasses.replace(system.supercell, positions=moved))
    with pytest.raises(InputError, match="translations in the supercell but got"):
        primitive_lattice(broken)
