"""Point defects as systems of their own: one per symmetry-distinct site, ready for every sampler and model.

A defect changes which atoms there are, and a system is a fixed set of atoms; so a defect is a new system whose unit
cell is the host's supercell. Atoms around it stand where they stand in the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.phonons.fit import full_force_constants
from activeph.records import Configuration, FloatArray, IntArray, System, ThermalCell
from activeph.systems.voids import VACUUM, atoms_around, voids

_SYMPREC = 1e-3  # Å
_SAME_VOID = 0.3  # Å, middles closer than this are one void

Change = Callable[[FloatArray], FloatArray]
"""From force constants of the host, between all pairs, to those of the defect."""


def vacancies(system: System, symbol: str) -> list[System]:
    """Return the host without one atom of an element, one system per distinct site.

    Springs are the host's with the missing atom integrated out: the others move, classically, exactly as they do in
    the host, and a stable host stays stable. (Springs merely cut need not be: what is left of a long-ranged crystal
    pushes into the hole.)

    Raises:
        InputError: the host has no such element.
    """
    found = []
    for number, atom in enumerate(_distinct_atoms(system, symbol), 1):
        kept = np.delete(np.arange(len(system.masses)), atom)
        cell = system.supercell
        left = Configuration(cell.numbers[kept], cell.positions[kept], cell.cell)
        name = f"{system.name}-vacancy-{symbol}{number}"
        found.append(_own_system(system, name, left, system.masses[kept], partial(_without, atom=atom)))
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
        found.append(_own_system(system, f"{system.name}-{by}-on-{symbol}{number}", cell, masses, _same))
    return found


def interstitials(system: System, symbol: str, smallest: float = 1.2) -> list[System]:
    """Return the host with one atom more, one system per distinct void of radius ``smallest`` (Å) or more.

    Voids are those of :func:`activeph.systems.voids.voids`, largest first; beyond 4 Å they are vacuum. The host
    cannot know the new atom's springs: it is tied to its nearest neighbours by equal ones, as strongly altogether as
    the host's atoms (of its element, where there are any) are to theirs, so that it swings about as far.

    Raises:
        InputError: ``symbol`` is no element, or no void is that large.
    """
    number, mass = _element(symbol)
    places = _distinct_voids(system, smallest)
    if len(places) == 0:
        raise InputError(
            f"interstitials need a void of radius {smallest:g} to {VACUUM:g} Å but {system.name!r} has none; lower it"
        )
    cell = system.supercell
    like = np.flatnonzero(cell.numbers == number)
    if len(like) == 0:
        like = np.arange(len(cell.numbers))
    return [
        _own_system(
            system,
            f"{system.name}-interstitial-{symbol}{index}",
            Configuration(np.append(cell.numbers, number), np.vstack([cell.positions, place]), cell.cell),
            np.append(system.masses, mass),
            partial(_with_one_more, neighbours=atoms_around(cell, place), like=like),
        )
        for index, place in enumerate(places, 1)
    ]


def _own_system(host: System, name: str, cell: Configuration, masses: FloatArray, change: Change) -> System:
    """Return a system whose supercell, unit cell and primitive cell are one; ``change`` makes its force constants."""
    n_atoms = len(cell.numbers)

    def changed(constants: FloatArray) -> FloatArray:
        return change(full_force_constants(host, constants))

    return System(
        name=name,
        unit_cell=cell,
        supercell=cell,
        supercell_matrix=np.eye(3, dtype=np.int64),
        primitive_matrix=np.eye(3),
        masses=masses,
        primitive_atoms=np.arange(n_atoms),
        force_constants=None if host.force_constants is None else changed(host.force_constants),
        effective_force_constants={T: changed(found) for T, found in host.effective_force_constants.items()},
        thermal_cells={
            T: ThermalCell(w.strain, changed(w.force_constants), _carried(w.shift, host, cell))
            for T, w in host.thermal_cells.items()
        },
        host=host.name,
    )


def _carried(shift: FloatArray | None, host: System, cell: Configuration) -> FloatArray | None:
    """Return the shifts [N, 3] of the atoms that the host has too; new ones have none."""
    if shift is None:
        return None
    same = (cell.positions[:, None] == host.supercell.positions[None]).all(axis=2)  # [N, N of the host]
    return np.asarray(same.astype(float) @ shift)


def _same(constants: FloatArray) -> FloatArray:
    return constants


def _without(constants: FloatArray, atom: int) -> FloatArray:
    """Return force constants [N - 1, N - 1, 3, 3] of the other atoms while one follows them without inertia.

    The Schur complement: its inverse is the block of the inverse, so it has the host's classical covariance. It keeps
    symmetry, the acoustic sum rule and the sign of all eigenvalues.
    """
    kept = np.delete(np.arange(len(constants)), atom)
    coupling = constants[kept, atom]  # [N - 1, 3, 3]
    response = np.linalg.solve(constants[atom, atom], coupling.transpose(0, 2, 1))
    return np.asarray(constants[np.ix_(kept, kept)] - np.einsum("iab,jbc->ijac", coupling, response))


def _with_one_more(constants: FloatArray, neighbours: IntArray, like: IntArray) -> FloatArray:
    """Return force constants [N + 1, N + 1, 3, 3] with a new atom on equal springs to its neighbours."""
    n_atoms = len(constants)
    stiffness = float(np.mean(np.trace(constants[like, like], axis1=1, axis2=2))) / 3
    spring = max(stiffness, 0.1) / len(neighbours) * np.eye(3)  # eV/Å²; an unstable host gives no negative springs
    result = np.zeros((n_atoms + 1, n_atoms + 1, 3, 3))
    result[:n_atoms, :n_atoms] = constants
    result[n_atoms, n_atoms] = spring * len(neighbours)
    for atom in neighbours:
        result[n_atoms, atom] -= spring
        result[atom, n_atoms] -= spring
        result[atom, atom] += spring
    return result


def _distinct_atoms(system: System, symbol: str) -> IntArray:
    """Return the first atom of each symmetry-distinct site of an element in the supercell."""
    number, _ = _element(symbol)
    own = np.flatnonzero(system.supercell.numbers == number)
    if len(own) == 0:
        raise InputError(f"defects of {system.name!r} must sit on one of its elements but got {symbol}; see its file")
    return np.unique(_dataset(system).equivalent_atoms[own])


def _distinct_voids(system: System, smallest: float) -> FloatArray:
    """Return the places [n, 3] of symmetry-distinct voids in Å, largest first."""
    cell = system.supercell
    inverse = np.linalg.inv(cell.cell)
    dataset = _dataset(system)
    chosen: list[FloatArray] = []
    taken = np.empty((0, 3))  # fractions of all that are equal to a chosen one by symmetry
    for place in voids(cell, smallest)[0]:
        fraction = place @ inverse
        fraction -= np.floor(fraction)
        offsets = taken - fraction
        if (np.linalg.norm((offsets - np.rint(offsets)) @ cell.cell, axis=1) < _SAME_VOID).any():
            continue
        chosen.append(fraction @ cell.cell)
        taken = np.vstack([taken, dataset.rotations @ fraction + dataset.translations])
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
