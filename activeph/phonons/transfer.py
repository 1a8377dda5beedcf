"""Force constants of one supercell in another supercell of the same crystal.

Φ(i, j) is shared equally among the shortest images of the pair and laid onto the atoms that stand there in the other
supercell. A smaller supercell gets the exact fold (the same dynamical matrix at its q-points); a larger one gets the
Fourier interpolation of the dynamical matrix, with zero beyond the range of the source.
"""

from __future__ import annotations

import itertools

import numpy as np

from activeph.errors import InputError
from activeph.phonons.modes import required_force_constants
from activeph.records import FloatArray, IntArray, System

_SAME_PLACE = 0.1  # Å, allowed difference of relaxed positions in the two descriptions
_TRANSLATED = 0.02  # Å, rounding of atoms that are translations of each other; beyond it they are a superstructure
_SAME_CELL = 0.01  # relative difference of lattice vectors
_EQUAL_LENGTH = 1e-4  # Å, images this equally far share a force constant


def transferred(source: System, target: System) -> FloatArray:
    """Return compact force constants [n_prim, N, 3, 3] of ``source`` for the supercell of ``target``.

    Raises:
        InputError: the two are not the same crystal in the same orientation; the sentence says what differs.
    """
    constants = required_force_constants(source)
    frame = _frame(source, target)  # target Å -> source Å
    shift, sites = _sites(source, target, frame)
    compact = _compact(source.supercell.cell)
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ compact
    places = target.supercell.positions @ frame + shift  # [N, 3] where target atoms stand in the source's frame
    cell = np.asarray(target.supercell.cell @ frame)
    result = np.zeros((len(sites), len(places), 3, 3))
    for row, (atom, site) in enumerate(zip(target.primitive_atoms, sites, strict=True)):
        start = source.supercell.positions[source.primitive_atoms[site]]
        pairs, vectors, weights = _shortest(source.supercell.positions - start, compact, images)
        found = _atoms_at(places[atom] + vectors, places, cell)
        np.add.at(result[row], found, constants[site][pairs] * weights[:, None, None])
    return result


def matched_sites(source: System, target: System) -> IntArray:
    """Return, for each primitive atom of ``target``, the index of the same atom among those of ``source``."""
    return _sites(source, target, _frame(source, target))[1]


def shared_cell(source: System, target: System) -> FloatArray:
    """Return the primitive cell [3, 3] of ``target`` in Å as ``source`` has it: the same up to a small strain."""
    return np.asarray(target.primitive_matrix.T @ target.unit_cell.cell @ _frame(source, target))


def _frame(source: System, target: System) -> FloatArray:
    """Return the matrix F with ``r_source = r_target @ F``: identity up to a small strain.

    What the source calls its primitive cell may hold several of the target's: many files name a conventional cell.
    """
    ours = target.primitive_matrix.T @ target.unit_cell.cell
    theirs = source.primitive_matrix.T @ source.unit_cell.cell
    relation = theirs @ np.linalg.inv(ours)
    rounded = np.rint(relation)
    if abs(round(np.linalg.det(rounded))) < 1 or np.abs(relation - rounded).max() > 2 * _SAME_CELL:
        raise InputError(
            f"force constants for {target.name!r} must belong to the same primitive lattice in the same orientation "
            f"but got primitive vectors {np.round(theirs, 4).tolist()} Å instead of {np.round(ours, 4).tolist()} Å; "
            "take the structure from the calculation of the force constants"
        )
    frame = np.linalg.inv(ours) @ np.linalg.inv(rounded) @ theirs
    strain = np.abs(frame - np.eye(3)).max()
    if strain > _SAME_CELL:
        raise InputError(
            f"force constants for {target.name!r} must belong to the same cell but got one strained by {strain:.1%}; "
            "take the structure from the calculation of the force constants"
        )
    return np.asarray(frame)


def _sites(source: System, target: System, frame: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return a shift of origin [3] and, for each primitive atom of the target, one of the source's that it is."""
    theirs = source.supercell.positions[source.primitive_atoms]
    numbers = source.supercell.numbers[source.primitive_atoms]
    ours = target.supercell.positions[target.primitive_atoms] @ frame
    wanted = target.supercell.numbers[target.primitive_atoms]
    cell = np.asarray(target.primitive_matrix.T @ target.unit_cell.cell @ frame)
    inverse = np.linalg.inv(cell)
    times = abs(round(np.linalg.det(source.primitive_matrix.T @ source.unit_cell.cell @ inverse)))
    shifts = [np.zeros(3), *(place - ours[0] for place, Z in zip(theirs, numbers, strict=True) if wanted[0] == Z)]
    for shift in shifts:
        offsets = (theirs[:, None] - ours[None] - shift) @ inverse
        distances = np.linalg.norm((offsets - np.rint(offsets)) @ cell, axis=2)
        distances[numbers[:, None] != wanted[None]] = np.inf
        owners = distances.argmin(axis=1)
        if distances.min(axis=1).max() < _SAME_PLACE and (np.bincount(owners, minlength=len(ours)) == times).all():
            sites = np.array([np.flatnonzero(owners == atom)[0] for atom in range(len(ours))])
            rest = ((offsets - np.rint(offsets)) @ cell)[np.arange(len(theirs)), owners]
            if np.abs(rest - rest[sites][owners]).max() < _TRANSLATED:
                return shift, sites
    raise InputError(
        f"force constants for {target.name!r} must belong to the same atoms but got other positions or elements "
        f"({_formula(numbers)} instead of {_formula(wanted)} in the primitive cell); "
        "take the structure from the calculation of the force constants"
    )


def _compact(cell: FloatArray) -> FloatArray:
    """Return the shortest vectors [3, 3] of the same lattice: next to them the nearest image is one of 27."""
    from ase.geometry import minkowski_reduce

    return np.asarray(minkowski_reduce(cell)[0])


def _shortest(vectors: FloatArray, cell: FloatArray, images: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the shortest images of each vector [N, 3]: whose, the images [P, 3] and their weights [P]."""
    inverse = np.linalg.inv(cell)
    fractions = vectors @ inverse
    folded = (fractions - np.rint(fractions)) @ cell
    every = folded[:, None] + images  # [N, 27, 3]
    lengths = np.linalg.norm(every, axis=2)
    shortest = lengths < lengths.min(axis=1, keepdims=True) + _EQUAL_LENGTH
    pairs, which = np.nonzero(shortest)
    return pairs, every[pairs, which], 1.0 / shortest.sum(axis=1)[pairs]


def _atoms_at(points: FloatArray, places: FloatArray, cell: FloatArray) -> IntArray:
    """Return the index [P] of the atom that stands at each point, modulo the target supercell."""
    inverse = np.linalg.inv(cell)
    found = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), 256):
        offsets = (points[start : start + 256, None] - places[None]) @ inverse
        distances = np.linalg.norm((offsets - np.rint(offsets)) @ cell, axis=2)
        found[start : start + 256] = distances.argmin(axis=1)
    return found


def _formula(numbers: IntArray) -> str:
    from ase.formula import Formula
    from ase.symbols import Symbols

    return str(Formula(str(Symbols(numbers))).convert("hill"))
