"""How the atoms of a supercell are translations of the primitive cell, and which q-points fit into it. Exact integers.

Letters: N atoms of the supercell, L = N / p lattice translations, p atoms of the primitive cell, Q = L q-points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from activeph.errors import InputError
from activeph.records import FloatArray, IntArray, System

_TOLERANCE = 0.05  # Å; separates "same site" from "other site", both sides of it by a wide margin


@dataclass(frozen=True, eq=False)
class Lattice:
    """The primitive lattice seen from its supercell."""

    primitive_cell: FloatArray  # [3, 3] Å, rows
    repeats: IntArray  # [3, 3] supercell rows in primitive vectors
    atoms: IntArray  # [p, L] supercell index of primitive atom and translation
    translations: IntArray  # [L, 3] in primitive vectors, those of the first primitive atom
    q_points: FloatArray  # [Q, 3] fractions of the reciprocal primitive vectors, in [0, 1), Gamma first
    phases: FloatArray  # [Q, L] 2π q·l
    partners: IntArray  # [Q] index of -q

    @property
    def n_cells(self) -> int:
        """Number L of primitive cells in the supercell."""
        return len(self.translations)

    def translation_basis(self) -> tuple[FloatArray, list[IntArray]]:
        """Return real orthonormal waves [L, L] as columns, and which columns belong to each q of :meth:`q_indices`.

        One column where q = -q (values ±1/√L), two otherwise (√(2/L) times cosine, then sine).
        """
        columns: list[FloatArray] = []
        groups: list[IntArray] = []
        for q in self.q_indices():
            if self.partners[q] == q:
                columns.append(np.cos(self.phases[q])[:, None] / np.sqrt(self.n_cells))
            else:
                wave = np.sqrt(2 / self.n_cells) * np.exp(1j * self.phases[q])
                columns.append(np.stack([wave.real, wave.imag], axis=1))
            start = groups[-1][-1] + 1 if groups else 0
            groups.append(np.arange(start, start + columns[-1].shape[1]))
        return np.concatenate(columns, axis=1), groups

    def shifted(self, vector: IntArray) -> IntArray:
        """Return the index [L] of each translation plus ``vector`` [3], modulo the supercell."""
        return np.array([self._index[key] for key in self._keys(self.translations + vector)], dtype=np.int64)

    def opposite(self) -> IntArray:
        """Return the index [L] of minus each translation, modulo the supercell."""
        return np.array([self._index[key] for key in self._keys(-self.translations)], dtype=np.int64)

    @cached_property
    def _index(self) -> dict[tuple[int, ...], int]:
        return {key: index for index, key in enumerate(self._keys(self.translations))}

    def _keys(self, vectors: IntArray) -> list[tuple[int, ...]]:
        return [tuple(key) for key in _translation_keys(vectors, self.repeats).tolist()]

    def q_indices(self) -> list[int]:
        """Return one index of each pair (q, -q), Gamma first."""
        return [q for q, partner in enumerate(self.partners.tolist()) if partner >= q]


def primitive_lattice(system: System) -> Lattice:
    """Return the lattice of a system.

    Raises:
        InputError: the atoms of the supercell are not translations of its primitive cell.
    """
    cell = system.primitive_matrix.T @ system.unit_cell.cell
    repeats = np.rint(system.supercell.cell @ np.linalg.inv(cell)).astype(np.int64)
    adjugate, determinant = _adjugate(repeats)
    keys_and_vectors = [_site_translations(system, cell, atom) for atom in system.primitive_atoms]
    translations: IntArray | None = None
    atoms = []
    for indices, vectors in keys_and_vectors:
        keys = _translation_keys(vectors, repeats)
        order = np.lexsort(keys.T[::-1])
        if len(indices) != abs(determinant) or len(np.unique(keys, axis=0)) != len(keys):
            raise InputError(
                f"every primitive atom of system {system.name!r} must have {abs(determinant)} translations in the "
                f"supercell but got {len(indices)}; the supercell is not a repetition of the primitive cell"
            )
        atoms.append(indices[order])
        translations = vectors[order] if translations is None else translations
    assert translations is not None
    q_integers = _q_integers(repeats, adjugate, determinant)
    phases = 2 * np.pi * ((translations @ q_integers.T) % determinant).T / determinant
    lookup = {tuple(q): index for index, q in enumerate(q_integers.tolist())}
    partners = np.array([lookup[tuple(q)] for q in ((-q_integers) % determinant).tolist()], dtype=np.int64)
    q_points = q_integers / determinant
    return Lattice(cell, repeats, np.array(atoms), translations, q_points, phases, partners)


def _adjugate(repeats: IntArray) -> tuple[IntArray, int]:
    determinant = round(np.linalg.det(repeats))
    return np.rint(determinant * np.linalg.inv(repeats)).astype(np.int64), determinant


def _translation_keys(vectors: IntArray, repeats: IntArray) -> IntArray:
    """Return integers [L, 3] that are equal where two translations differ by a vector of the supercell."""
    adjugate, determinant = _adjugate(repeats)
    return np.asarray((vectors @ adjugate) % determinant)


def _site_translations(system: System, cell: FloatArray, atom: int) -> tuple[IntArray, IntArray]:
    """Return the supercell atoms [L] that are translations of ``atom``, and the translations [L, 3]."""
    positions = system.supercell.positions
    offsets = (positions - positions[atom]) @ np.linalg.inv(cell)
    nearest = np.rint(offsets)
    distances = np.linalg.norm((offsets - nearest) @ cell, axis=1)
    same = (distances < _TOLERANCE) & (system.supercell.numbers == system.supercell.numbers[atom])
    return np.flatnonzero(same), nearest[same].astype(np.int64)


def _q_integers(repeats: IntArray, adjugate: IntArray, determinant: int) -> IntArray:
    """Return all commensurate q [Q, 3] as integers over the determinant: repeats @ q integer, q in [0, 1)³."""
    corners = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1)
    low, high = (repeats @ corners).min(axis=1), (repeats @ corners).max(axis=1)
    grid = np.stack(np.meshgrid(*[np.arange(a, b + 1) for a, b in zip(low, high, strict=True)], indexing="ij"), -1)
    return np.unique((grid.reshape(-1, 3) @ adjugate.T) % determinant, axis=0)
