"""Point defects as systems of their own: one per symmetry-distinct site, ready for every sampler and model.

A defect changes which atoms there are, and a system is a fixed set of atoms; so a defect is a new system whose unit
cell is the host's supercell. :func:`activeph.systems.files.write_system` makes it a line of a campaign file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.phonons.fit import full_force_constants
from activeph.records import Configuration, FloatArray, IntArray, System

_SYMPREC = 1e-3  # Å
_SAME_VOID = 0.3  # Å, Voronoi vertices closer than this are one void


def vacancies(system: System, symbol: str) -> list[System]:
    """Return the host without one atom of an element, one system per distinct site.

    Force constants are the host's without the missing springs: what is left keeps the acoustic sum rule.

    Raises:
        InputError: the host has no such element.
    """
    found = []
    for number, atom in enumerate(_distinct_atoms(system, symbol), 1):
        kept = np.delete(np.arange(len(system.masses)), atom)
        cell = system.supercell
        left = Configuration(cell.numbers[kept], cell.positions[kept], cell.cell)
        constants = _full(system)
        if constants is not None:
            constants = constants[np.ix_(kept, kept)]
            diagonal = np.arange(len(kept))
            constants[diagonal, diagonal] -= constants.sum(axis=1)
        found.append(_own_system(f"{system.name}-vacancy-{symbol}{number}", left, system.masses[kept], constants))
    return found


def substitutions(system: System, symbol: str, by: str) -> list[System]:
    """Return the host with one atom of an element replaced, one system per distinct site; springs stay.

    Raises:
        InputError: the host has no such element, or ``by`` is none.
    """
    found = []
    for number, atom in enumerate(_distinct_atoms(system, symbol), 1):
        numbers, masses = system.supercell.numbers.copy(), system.masses.copy()
        numbers[atom], masses[atom] = _element(by)
        cell = dataclasses.replace(system.supercell, numbers=numbers)
        found.append(_own_system(f"{system.name}-{by}-on-{symbol}{number}", cell, masses, _full(system)))
    return found


def interstitials(system: System, symbol: str, smallest: float = 1.2) -> list[System]:
    """Return the host with one atom more, one system per distinct void of radius ``smallest`` (Å) or more.

    Voids are the Voronoi vertices of the crystal, largest first. No force constants: the new atom has none to inherit.

    Raises:
        InputError: ``symbol`` is no element, or no void is that large.
    """
    number, mass = _element(symbol)
    places = _distinct_voids(system, smallest)
    if len(places) == 0:
        raise InputError(f"interstitials need a void of radius {smallest:g} Å but {system.name!r} has none; lower it")
    cell = system.supercell
    return [
        _own_system(
            f"{system.name}-interstitial-{symbol}{index}",
            Configuration(np.append(cell.numbers, number), np.vstack([cell.positions, place]), cell.cell),
            np.append(system.masses, mass),
            None,
        )
        for index, place in enumerate(places, 1)
    ]


def _own_system(name: str, cell: Configuration, masses: FloatArray, constants: FloatArray | None) -> System:
    """Return a system whose supercell, unit cell and primitive cell are one."""
    n_atoms = len(cell.numbers)
    return System(name, cell, cell, np.eye(3, dtype=np.int64), np.eye(3), masses, np.arange(n_atoms), constants)


def _full(system: System) -> FloatArray | None:
    return None if system.force_constants is None else full_force_constants(system, system.force_constants)


def _distinct_atoms(system: System, symbol: str) -> IntArray:
    """Return the first atom of each symmetry-distinct site of an element in the supercell."""
    number, _ = _element(symbol)
    own = np.flatnonzero(system.supercell.numbers == number)
    if len(own) == 0:
        raise InputError(f"defects of {system.name!r} must sit on one of its elements but got {symbol}; see its file")
    return np.unique(_dataset(system).equivalent_atoms[own])


def _distinct_voids(system: System, smallest: float) -> FloatArray:
    """Return the places [n, 3] of symmetry-distinct voids in Å, largest first."""
    from scipy.spatial import Voronoi, cKDTree

    cell = system.supercell
    images = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).T.reshape(-1, 1, 3) @ cell.cell
    atoms = (cell.positions + images).reshape(-1, 3)
    vertices = Voronoi(atoms).vertices
    fractions = vertices @ np.linalg.inv(cell.cell)
    vertices = vertices[((fractions > -1e-6) & (fractions < 1 - 1e-6)).all(axis=1)]
    radii = cKDTree(atoms).query(vertices)[0]
    order = np.argsort(-np.round(radii, 3), kind="stable")
    dataset = _dataset(system)
    chosen: list[FloatArray] = []
    taken = np.empty((0, 3))
    for place, radius in zip(vertices[order], radii[order], strict=True):
        offsets = (taken - place) @ np.linalg.inv(cell.cell)
        near = np.linalg.norm((offsets - np.rint(offsets)) @ cell.cell, axis=1)
        if radius < smallest or (near < _SAME_VOID).any():
            continue
        chosen.append(place)
        fraction = np.linalg.inv(cell.cell).T @ place
        taken = np.vstack([taken, (dataset.rotations @ fraction + dataset.translations) @ cell.cell])
    return np.array(chosen).reshape(-1, 3)


def _dataset(system: System) -> Any:
    import spglib

    cell = system.supercell
    crystal = (cell.cell, cell.positions @ np.linalg.inv(cell.cell), cell.numbers)
    return spglib.get_symmetry_dataset(crystal, symprec=_SYMPREC)


def _element(symbol: str) -> tuple[int, float]:
    """Return atomic number and standard mass in amu."""
    from ase.data import atomic_masses, atomic_numbers

    if symbol not in atomic_numbers or symbol == "X":
        raise InputError(f"a defect must be a chemical symbol but got {symbol!r}; write e.g. Br")
    number = int(atomic_numbers[symbol])
    return number, float(atomic_masses[number])
