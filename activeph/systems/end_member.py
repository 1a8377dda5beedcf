"""The other end of a solid solution: the same crystal with one sublattice replaced."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from activeph.errors import InputError
from activeph.records import Configuration, System
from activeph.systems.load import make_system, read_structure

_SAME_SITE = 0.08  # fraction of a lattice vector by which internal coordinates of the ends may differ


def end_member(
    system: System, replaced: int, by: int, structure: Path | None = None, force_constants: Path | None = None
) -> System:
    """Return ``system`` with atomic number ``replaced`` made ``by`` everywhere, atoms in the same order.

    Args:
        system: one end.
        replaced: atomic number of the sublattice.
        by: atomic number in its place.
        structure: unit cell of the other end, same choice of lattice vectors and origin; None: that of ``system``.
        force_constants: phonopy file of the other end; None: those of ``system``.

    Raises:
        InputError: the structure is not that of the other end, or the force constants belong to another crystal.
    """
    wanted = np.where(system.unit_cell.numbers == replaced, by, system.unit_cell.numbers)
    unit = dataclasses.replace(system.unit_cell, numbers=wanted)
    if structure is not None:
        unit = _ordered_like(unit, read_structure(structure), structure)
    other = make_system(f"{system.name}-end", unit, system.supercell_matrix)
    if not np.array_equal(other.primitive_atoms, system.primitive_atoms):
        where = f"in {structure}" if structure else "when its atoms are replaced"
        raise InputError(
            f"end member of {system.name!r} must have the same primitive cell but got another symmetry {where}; "
            "give both ends in the same cell and space group"
        )
    kept = system.supercell.numbers != replaced
    other = dataclasses.replace(other, masses=np.where(kept, system.masses, other.masses))  # isotopes stay
    if force_constants is None:
        return dataclasses.replace(other, force_constants=system.force_constants)
    from activeph.systems.files import read_force_constants

    return read_force_constants(other, force_constants)


def _ordered_like(wanted: Configuration, found: Configuration, path: Path) -> Configuration:
    """Return the atoms of ``found`` in the order of ``wanted``, each beside its site."""
    sites = wanted.positions @ np.linalg.inv(wanted.cell)
    fractions = found.positions @ np.linalg.inv(found.cell)
    offsets = fractions[None] - sites[:, None]  # [sites, atoms, 3]
    offsets -= np.rint(offsets)
    misfit = np.abs(offsets).max(axis=2) if len(found.numbers) == len(sites) else np.full((len(sites), 1), np.inf)
    if len(found.numbers) == len(sites):
        misfit[wanted.numbers[:, None] != found.numbers[None]] = np.inf
    order = misfit.argmin(axis=1)
    if misfit.min(axis=1).max() > _SAME_SITE or len(set(order)) != len(sites):
        raise InputError(
            f"end_member must be the same unit cell with one element replaced but got other atoms or places in {path}; "
            "give both ends with the same lattice vectors and origin"
        )
    nearest = sites + offsets[np.arange(len(sites)), order]
    return Configuration(wanted.numbers, nearest @ found.cell, found.cell)
