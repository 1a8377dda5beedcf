"""What a crystal's symmetry leaves free: changes of the cell's shape, and of where the atoms stand in it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from activeph.phonons.lattice import primitive_lattice
from activeph.records import Configuration, FloatArray, IntArray, System
from activeph.systems.load import SNAP

TRACELESS = np.array(
    [
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]] / np.sqrt(2),
        [[0, 0, 1], [0, 0, 0], [1, 0, 0]] / np.sqrt(2),
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]] / np.sqrt(2),
        np.diag([1, -1, 0]) / np.sqrt(2),
        np.diag([1, 1, -2]) / np.sqrt(6),
    ]
)
"""Orthonormal symmetric traceless matrices [5, 3, 3]."""

_AXES_FIRST = np.array([-TRACELESS[4], TRACELESS[3], *TRACELESS[:3]])  # what is positive lengthens a single axis c


def free_shapes(system: System) -> FloatArray:
    """Return the orthonormal symmetric traceless strains [K, 3, 3] that keep the crystal's symmetry.

    K = 0 for cubic crystals, 1 for hexagonal, trigonal and tetragonal, 2 for orthorhombic, 3 for monoclinic and 5 for
    triclinic ones. The rotations are those of the crystal, in whatever way its axes lie.
    """
    cell = system.unit_cell.cell
    rotations = [cell.T @ rotation @ np.linalg.inv(cell.T) for rotation in _operations(system)["rotations"]]
    turned = [[np.sum(one * (R @ other @ R.T)) for other in _AXES_FIRST for R in rotations] for one in _AXES_FIRST]
    kept = np.array(turned).reshape(5, 5, len(rotations)).mean(axis=2)
    return np.asarray(np.einsum("ks,sij->kij", _basis(kept), _AXES_FIRST))


def free_shifts(system: System) -> FloatArray:
    """Return the orthonormal displacements [D, p, 3] of the primitive atoms that keep the crystal's symmetry.

    Rigid translations are left out; D = 0 where symmetry holds every atom.
    """
    cell, operations = system.unit_cell.cell, _operations(system)
    fractions = system.unit_cell.positions @ np.linalg.inv(cell)
    n_atoms, owners = len(fractions), _owners(system)
    kept = np.zeros((n_atoms, 3, n_atoms, 3))
    for rotation, translation in zip(operations["rotations"], operations["translations"], strict=True):
        offsets = (fractions @ rotation.T + translation)[:, None] - fractions
        images = np.linalg.norm((offsets - np.rint(offsets)) @ cell, axis=2).argmin(axis=1)
        kept[images, :, np.arange(n_atoms)] += cell.T @ rotation @ np.linalg.inv(cell.T)
    n_sites = len(system.primitive_atoms)
    means = np.eye(n_sites)[owners].T / np.bincount(owners)[:, None]  # primitive from unit cell
    matrix = np.einsum("pa,aibj,bq->piqj", means, kept / len(operations["rotations"]), np.eye(n_sites)[owners])
    flat = matrix.reshape(3 * n_sites, 3 * n_sites)
    rigid = np.kron(np.ones((n_sites, n_sites)) / n_sites, np.eye(3))
    free = np.eye(len(flat)) - rigid
    return _basis(free @ flat @ free).reshape(-1, n_sites, 3)


def deformed(system: System, deformation: FloatArray, shift: FloatArray | None = None) -> System:
    """Return the crystal with cell and sites multiplied by ``deformation`` [3, 3], without force constants.

    ``shift`` [p, 3] in Å moves the primitive atoms, and with each all its translations.
    """
    sites = primitive_lattice(system).atoms
    shifts = np.zeros_like(system.supercell.positions)
    if shift is not None:
        shifts[sites] = shift[:, None]

    def changed(cell: Configuration, more: FloatArray) -> Configuration:
        return dataclasses.replace(
            cell, positions=cell.positions @ deformation + more, cell=np.asarray(cell.cell @ deformation)
        )

    return dataclasses.replace(
        system,
        unit_cell=changed(system.unit_cell, shifts[_images(system)]),
        supercell=changed(system.supercell, shifts),
        force_constants=None,
        effective_force_constants={},
        thermal_cells={},
    )


def _operations(system: System) -> Any:
    import warnings

    import spglib

    cell = system.unit_cell
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = spglib.get_symmetry((cell.cell, cell.positions @ np.linalg.inv(cell.cell), cell.numbers), symprec=SNAP)
    return found or {"rotations": np.eye(3, dtype=int)[None], "translations": np.zeros((1, 3))}


def _images(system: System) -> IntArray:
    """Return the supercell index [a] of each atom of the unit cell: phonopy keeps its repetitions together."""
    n_atoms = len(system.unit_cell.numbers)
    return np.arange(n_atoms, dtype=np.int64) * (len(system.supercell.numbers) // n_atoms)


def _owners(system: System) -> IntArray:
    """Return which primitive atom each atom of the unit cell [a] is a translation of."""
    sites = primitive_lattice(system).atoms
    owners = np.empty(sites.size, dtype=np.int64)
    owners[sites] = np.arange(len(sites))[:, None]
    return owners[_images(system)]


def _basis(projector: FloatArray) -> FloatArray:
    """Return orthonormal rows [k, n] that span what a projector [n, n] keeps, the same on every machine.

    Rows of the projector in order, orthogonalised: an eigensolver would turn degenerate ones at will.
    """
    rows: list[FloatArray] = []
    for row in (projector + projector.T) / 2:
        for known in rows:
            row = row - (row @ known) * known
        if np.linalg.norm(row) > 1e-3:
            rows.append(row / np.linalg.norm(row))
    return np.array(rows).reshape(-1, len(projector))
