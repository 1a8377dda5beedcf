"""Voids against a search on a grid, in cells of every shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase.geometry import cellpar_to_cell
from scipy.optimize import linprog
from scipy.spatial import Voronoi, cKDTree

from activeph.records import Configuration, System
from activeph.systems.defects import interstitials
from activeph.systems.load import make_system
from activeph.systems.voids import VACUUM, atoms_around, empty_directions, voids

SKEW = np.array([[1, 0, 0], [3, 1, 0], [-4, 2, 1]])  # other vectors of the same lattice
CELLS = {
    "monoclinic": cellpar_to_cell([5.2, 5.2, 5.3, 90, 99.2, 90]),
    "steep": cellpar_to_cell([5.6, 6.3, 11.0, 90, 138, 90]),
    "triclinic": cellpar_to_cell([6.1, 7.3, 8.9, 38, 52, 47]),
}
ATOMS = {  # of one half, the other follows from inversion
    "monoclinic": [[0.2754, 0.0395, 0.2083], [0.0700, 0.3317, 0.3447], [0.4496, 0.7569, 0.4792]],
    "steep": [[0.11, 0.07, 0.12], [0.42, 0.33, 0.23], [0.18, 0.68, 0.41]],
    "triclinic": [[0.13, 0.09, 0.11], [0.44, 0.31, 0.27], [0.17, 0.71, 0.44]],
}


def _crystal(name: str, skew: bool = False) -> System:
    fractions = np.vstack([ATOMS[name], -np.array(ATOMS[name])])
    cell = Configuration(np.full(6, 16), fractions @ CELLS[name], (SKEW if skew else np.eye(3)) @ CELLS[name])
    return make_system(name, cell, [1, 1, 1])


def _atoms(name: str) -> cKDTree:
    """Return all atoms within 32 Å of the origin."""
    images = np.array(list(itertools.product(range(-11, 12), repeat=3))) @ CELLS[name]
    atoms = (np.vstack([ATOMS[name], -np.array(ATOMS[name])]) @ CELLS[name] + images[:, None]).reshape(-1, 3)
    return cKDTree(atoms[np.linalg.norm(atoms, axis=1) < 32])


def _slope(atoms: cKDTree, place: np.ndarray) -> float:
    """Return how fast one can get away from all atoms that are nearest to a place: 0 on a summit."""
    near = atoms.data[atoms.query_ball_point(place, atoms.query(place)[0] + 1e-6)] - place
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    matrix = np.hstack([near, np.ones((len(near), 1))])
    return -float(linprog([0, 0, 0, -1], matrix, np.zeros(len(near)), bounds=[(-1, 1)] * 3 + [(0, None)]).fun)


def _apart(places: np.ndarray, others: np.ndarray, name: str) -> np.ndarray:
    """Return the distance of each place to the nearest image of others."""
    images = np.array(list(itertools.product(range(-9, 10), repeat=3))) @ CELLS[name]
    fractions = places @ np.linalg.inv(CELLS[name])
    return np.asarray(
        cKDTree((others + images[:, None]).reshape(-1, 3)).query((fractions - np.floor(fractions)) @ CELLS[name])[0]
    )


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_voids_are_all_summits_of_the_distance_to_the_atoms(name: str, skew: bool) -> None:
    cell = _crystal(name, skew).supercell
    places, radii = voids(cell, 1.2)
    atoms = _atoms(name)
    wrapped = places @ np.linalg.inv(CELLS[name])
    wrapped = (wrapped - np.floor(wrapped)) @ CELLS[name]
    np.testing.assert_allclose(atoms.query(wrapped)[0], radii, atol=1e-9)
    vertices = Voronoi(atoms.data).vertices
    fractions = vertices @ np.linalg.inv(CELLS[name])
    vertices = vertices[((fractions > -1e-6) & (fractions < 1 - 1e-6)).all(axis=1)]
    heights = atoms.query(vertices)[0]
    fit = (heights > 1.2) & (heights <= VACUUM)
    summits = vertices[fit][[_slope(atoms, one) < 0.01 for one in vertices[fit]]]
    assert len(summits) > 5
    assert _apart(summits, places, name).max() < 1e-6
    assert _apart(places, summits, name).max() < 1e-6
    grid = np.array(list(itertools.product(np.arange(0, 1, 0.05), repeat=3))) @ CELLS[name]
    assert 0 < radii[0] - atoms.query(grid)[0].max() < 0.3


@pytest.mark.parametrize("name", CELLS)
def test_interstitials_do_not_depend_on_the_vectors_of_the_cell(name: str) -> None:
    plain, skew = (_crystal(name, skew) for skew in (False, True))
    first, second = interstitials(plain, "Li"), interstitials(skew, "Li")
    assert len(first) == len(second) > 3
    places = [np.array([one.supercell.positions[-1] for one in found]) for found in (first, second)]
    both = np.vstack([places[1], -places[1]])  # inversion is the only symmetry that all these crystals have
    if name == "triclinic":
        assert _apart(places[0], both, name).max() < 1e-6
    for one, other in zip(first, second, strict=True):
        around = [
            atoms_around(host.supercell, found.supercell.positions[-1]) for host, found in ((plain, one), (skew, other))
        ]
        assert len(around[0]) == len(around[1]) >= 4


@pytest.mark.parametrize("tilt", [0.0, 9.0])
def test_empty_directions_are_those_of_vacuum(tilt: float) -> None:
    fractions = np.array([[0.1, 0.2, 0.95], [0.6, 0.7, 0.05]])  # across the border of the cell
    for height, empty in ((9.5, True), (8.5, False)):  # nine tenths of it between the planes
        cell = np.array([[5.0, 0, 0], [0, 5.0, 0], [tilt, 0, height]])
        found = empty_directions(Configuration(np.array([6, 6]), fractions @ cell, cell))
        assert found.tolist() == [False, False, empty]
