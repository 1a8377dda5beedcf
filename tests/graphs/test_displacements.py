"""A configuration is told from its reference whatever frame, order or cell it is written in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.graphs.displacements import displacements, mirrored
from activeph.records import Block, System


def make(system: System, positions: np.ndarray, cells: np.ndarray, species: np.ndarray | None = None) -> Block:
    if species is None:
        species = np.tile(system.supercell.numbers, (len(positions), 1))
    return Block(system.name, species, positions, cells, np.full(len(positions), np.nan))


@pytest.mark.parametrize("name", ["rocksalt", "perovskite", "wurtzite", "triclinic"])
@pytest.mark.parametrize("change", ["none", "jumps", "shift", "order", "cell", "turn", "all"])
def test_displacements_are_recovered(name: str, change: str, crystal: Callable[..., System]) -> None:
    system = crystal(name)
    rng = np.random.default_rng(0)
    cell = system.supercell
    n_atoms = len(cell.numbers)
    truth = 0.08 * rng.normal(size=(3, n_atoms, 3))
    truth -= np.einsum("n,bnx->bx", system.masses / system.masses.sum(), truth)[:, None]
    positions, cells = cell.positions + truth, np.tile(cell.cell, (3, 1, 1))
    species = np.tile(cell.numbers, (3, 1))
    if change in ("jumps", "all"):
        positions = positions + rng.integers(-2, 3, size=positions.shape) @ cells
    if change in ("shift", "all"):
        positions = positions + rng.normal(size=(3, 1, 3))
    if change == "order":
        order = rng.permutation(n_atoms)
        positions, species = positions[:, order], species[:, order]
    if change == "cell":
        cells = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cells
    if change in ("turn", "all"):
        angle = 0.3
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        positions, cells = positions @ turn.T, cells @ turn.T
    found = displacements(make(system, positions, cells, species), system)
    if change == "order":  # atoms of one species are alike: any pure lattice translation is as good a map
        assert np.allclose(np.sort(np.linalg.norm(found, axis=2)), np.sort(np.linalg.norm(truth, axis=2)), atol=1e-9)
    else:
        np.testing.assert_allclose(found, truth, atol=1e-9)


def test_other_atoms_are_refused(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    cell = system.supercell
    species = np.tile(cell.numbers, (1, 1))
    species[0, 0] = 3
    with pytest.raises(InputError, match="must have the atoms of its supercell"):
        displacements(make(system, cell.positions[None], cell.cell[None], species), system)
    with pytest.raises(InputError, match="but got 7"):
        displacements(make(system, cell.positions[None, :7], cell.cell[None], species[:, :7]), system)


@pytest.mark.parametrize("name", ["rocksalt", "wurtzite", "triclinic"])
def test_a_mirror_image_has_every_displacement_reversed(name: str, crystal: Callable[..., System]) -> None:
    system = crystal(name)
    rng = np.random.default_rng(1)
    cell = system.supercell
    cells = np.tile(cell.cell, (3, 1, 1)) @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3, 3)))
    moved = cell.positions + 0.08 * rng.normal(size=(3, len(cell.numbers), 3)) + rng.normal(size=(3, 1, 3))
    block = make(system, moved @ np.linalg.inv(cell.cell) @ cells, cells)
    image = mirrored(block, system)
    np.testing.assert_allclose(displacements(image, system), -displacements(block, system), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(image.cells), np.linalg.det(cells))
    np.testing.assert_allclose(image.temperatures, block.temperatures)


def test_configurations_of_other_atoms_are_their_own_mirror_images(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    cell = system.supercell
    species = np.tile(cell.numbers, (2, 1))
    species[0, 0] = 19
    moved = cell.positions + 0.05 * np.random.default_rng(0).normal(size=(2, len(cell.numbers), 3))
    block = make(system, moved, np.tile(cell.cell, (2, 1, 1)), species)
    image = mirrored(block, system)
    assert np.array_equal(image.positions[0], block.positions[0])
    assert not np.allclose(image.positions[1], block.positions[1])
    assert np.array_equal(image.species, species)
