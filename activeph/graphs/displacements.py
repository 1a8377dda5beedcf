"""Which displacement of the reference crystal a configuration is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.records import Block, Configuration, FloatArray, IntArray, System

REASSIGN = 0.75  # of the shortest distance of the reference: an atom further away than that sits on another site


def same_atoms(block: Block, system: System) -> NDArray[np.bool_]:
    """Return which configurations [B] have the atoms of the system's supercell, in whatever order."""
    atoms = np.sort(system.supercell.numbers)
    if block.species.shape[1] != len(atoms):
        return np.zeros(len(block), dtype=bool)
    return np.asarray(np.all(np.sort(block.species, axis=1) == atoms, axis=1))


def displacements(block: Block, system: System) -> FloatArray:
    """Return displacements [B, N, 3] in Å from the system's supercell, in its frame and order of atoms.

    Rotations, homogeneous strain, translations, lattice jumps, permutations of atoms and unimodular changes of the
    cell are taken out; the centre of mass stays at rest.

    Raises:
        InputError: the configuration has other atoms than the supercell.
    """
    reference = system.supercell
    if not np.all(same_atoms(block, system)):
        raise InputError(
            f"configurations of system {system.name!r} must have the atoms of its supercell ({len(reference.numbers)}) "
            f"but got {block.species.shape[1]} other ones; use a model that needs no reference crystal, such as gnn."
        )
    fractional = block.positions @ np.linalg.inv(_standard_cells(block.cells, reference.cell))
    rest = reference.positions @ np.linalg.inv(reference.cell)
    moved = _centred(fractional - rest, system.masses)
    distances = np.linalg.norm(moved @ reference.cell, axis=2).max(axis=1)
    far = distances > REASSIGN * _shortest_distance(reference)
    ordered = np.all(block.species == reference.numbers, axis=1)
    for row in np.flatnonzero(far | ~ordered):
        order = _assign(fractional[row], block.species[row], rest, reference)
        moved[row] = _centred((fractional[row, order] - rest)[None], system.masses)[0]
    return np.asarray(moved @ reference.cell)


def mirrored(block: Block, system: System) -> Block:
    """Return the configurations with every displacement from the supercell reversed, in its order of atoms.

    In a harmonic crystal they are as likely as the others, and new to whoever has only seen those. Configurations with
    other atoms than the supercell's stay as they are.
    """
    rows = np.flatnonzero(same_atoms(block, system))
    if len(rows) == 0:
        return block
    reference = system.supercell
    own = replace(
        block,
        species=block.species[rows],
        positions=block.positions[rows],
        cells=block.cells[rows],
        temperatures=block.temperatures[rows],
    )
    moved = displacements(own, system)
    species, positions, cells = block.species.copy(), block.positions.copy(), block.cells.copy()
    cells[rows] = _standard_cells(block.cells[rows], reference.cell)
    species[rows] = reference.numbers
    positions[rows] = (reference.positions - moved) @ np.linalg.inv(reference.cell) @ cells[rows]
    return replace(block, species=species, positions=positions, cells=cells)


def _standard_cells(cells: FloatArray, reference: FloatArray) -> FloatArray:
    """Return cells of the same lattices with the reference's choice of vectors, where an integer matrix leads there."""
    change = np.round(cells @ np.linalg.inv(reference))
    unimodular = np.abs(np.abs(np.linalg.det(change)) - 1) < 1e-6
    change[~unimodular] = np.eye(3)
    return np.asarray(np.linalg.solve(change, cells))


def _centred(moved: FloatArray, masses: FloatArray) -> FloatArray:
    """Return fractional displacements [B, N, 3] without lattice jumps and without motion of the centre of mass."""
    moved = moved - moved[:, :1]
    moved -= np.round(moved)
    moved -= np.einsum("n,bnx->bx", masses / masses.sum(), moved)[:, None]
    return moved


def _shortest_distance(reference: Configuration) -> float:
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ reference.cell
    apart = reference.positions[:, None, None] - reference.positions[None, :, None] + images
    distances = np.linalg.norm(apart, axis=-1)
    return float(distances[distances > 1e-6].min())


def _assign(fractional: FloatArray, species: IntArray, rest: FloatArray, reference: Configuration) -> IntArray:
    """Return the order of atoms that brings each to its site of the reference: least sum of squared displacements."""
    from scipy.optimize import linear_sum_assignment

    best: tuple[float, IntArray] | None = None
    forbidden = np.where(species[:, None] == reference.numbers[None, :], 0.0, 1e6)
    for site in np.flatnonzero(reference.numbers == species[0]):
        apart = (fractional - fractional[0])[:, None] - (rest - rest[site])[None, :]
        apart -= np.round(apart)
        costs = np.sum((apart @ reference.cell) ** 2, axis=2) + forbidden
        atoms, sites = linear_sum_assignment(costs)
        total = float(costs[atoms, sites].sum())
        if best is None or total < best[0]:
            best = total, np.argsort(sites)
    assert best is not None  # the species were compared before
    return best[1]
