"""Normal modes of a supercell, one block per pair (q, -q) of commensurate q-points: never a (3N)² matrix unless asked.

Real waves: u(κ, l) = M_κ^(-1/2) Σ_c C[l, c] w_c(κ), with C the orthonormal translation basis of :mod:`.lattice`. In it
the dynamical matrix falls into real blocks, of 3p rows where q = -q and of 6p rows (cosine, sine) otherwise.
The three rigid translations are projected out exactly, whatever the force constants' sum rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.phonons.lattice import Lattice, primitive_lattice
from activeph.phonons.units import THZ_PER_ROOT
from activeph.records import FloatArray, IntArray, System


@dataclass(frozen=True, eq=False)
class ModeBlock:
    """The modes of one pair (q, -q)."""

    q_point: FloatArray  # [3] fractions of the reciprocal primitive vectors
    columns: IntArray  # [1 or 2] columns of the translation basis
    frequencies: FloatArray  # [m] THz, negative where imaginary
    vectors: FloatArray  # [len(columns) * 3p, m] orthonormal columns; rows: wave, primitive atom, direction


@dataclass(frozen=True, eq=False)
class HarmonicModes:
    """All 3N - 3 vibrations of a supercell. ``masses`` are those of the primitive atoms."""

    lattice: Lattice
    translation_basis: FloatArray  # [L, L]
    blocks: tuple[ModeBlock, ...]
    masses: FloatArray  # [p] amu

    @property
    def frequencies(self) -> FloatArray:
        """Frequencies [3N - 3] in THz, block after block; negative where imaginary."""
        return np.concatenate([block.frequencies for block in self.blocks])

    def slices(self) -> Iterator[tuple[ModeBlock, slice]]:
        """Yield each block with its place among all modes."""
        start = 0
        for block in self.blocks:
            yield block, slice(start, start + len(block.frequencies))
            start += len(block.frequencies)

    def vectors(self) -> FloatArray:
        """Return mass-weighted orthonormal modes [3N, 3N - 3] as columns, in the supercell's order of atoms."""
        n_sites, n_cells = self.lattice.atoms.shape
        result = np.empty((3 * n_sites * n_cells, len(self.frequencies)))
        rows = (3 * self.lattice.atoms.T[:, :, None] + np.arange(3)).reshape(n_cells, 3 * n_sites)  # [L, 3p]
        for block, place in self.slices():
            waves = self.translation_basis[:, block.columns]  # [L, c]
            parts = block.vectors.reshape(len(block.columns), 3 * n_sites, -1)  # [c, 3p, m]
            result[rows.ravel(), place] = np.einsum("lc,ckm->lkm", waves, parts).reshape(rows.size, -1)
        return result


@dataclass(frozen=True, eq=False)
class NormalModes:
    """Normal modes of a whole supercell as one matrix, sorted by frequency."""

    frequencies: FloatArray  # [M] THz, M = 3N - 3, negative where imaginary
    vectors: FloatArray  # [3N, M] mass-weighted, orthonormal columns, rows in the supercell's order (atom, direction)

    def coordinates(self, displacements: FloatArray, masses: FloatArray) -> FloatArray:
        """Return normal coordinates [B, M] in amu^(1/2) Å of displacements [B, N, 3] Å for masses [N] amu."""
        weighted = displacements * np.sqrt(masses)[:, None]
        return np.asarray(weighted.reshape(len(displacements), -1) @ self.vectors)


def harmonic_modes(system: System) -> HarmonicModes:
    """Return the vibrations of a system in blocks of q.

    Raises:
        InputError: the system has no force constants, or they do not fit its supercell.
    """
    constants = required_force_constants(system)
    lattice = primitive_lattice(system)
    masses = np.asarray(system.masses[system.primitive_atoms], dtype=np.float64)
    basis, groups = lattice.translation_basis()
    blocks = []
    for q, columns in zip(lattice.q_indices(), groups, strict=True):
        matrix = _dynamical_matrix(constants, lattice, masses, q)
        if q == 0:
            eigenvalues, vectors = _without_translations(matrix.real, masses)
        elif lattice.partners[q] == q:
            eigenvalues, vectors = np.linalg.eigh(matrix.real)
        else:
            eigenvalues, vectors = _real_pair(*np.linalg.eigh(matrix))
        blocks.append(ModeBlock(lattice.q_points[q], columns, frequencies_of(eigenvalues), vectors))
    return HarmonicModes(lattice, basis, tuple(blocks), masses)


def rebuilt(system: System, modes: HarmonicModes, frequencies: FloatArray) -> FloatArray:
    """Return compact force constants [n_prim, N, 3, 3] with the vectors of ``modes`` and other ``frequencies`` (THz).

    ``frequencies`` [3N - 3] are in the order of ``modes.frequencies``, negative where imaginary.
    """
    vectors = modes.vectors() * np.repeat(np.sqrt(system.masses), 3)[:, None]
    eigenvalues = np.sign(frequencies) * (frequencies / THZ_PER_ROOT) ** 2
    n_atoms = len(system.masses)
    rows = vectors.reshape(n_atoms, 3, -1)[system.primitive_atoms].reshape(-1, vectors.shape[1])
    matrix = (rows * eigenvalues) @ vectors.T
    return np.ascontiguousarray(matrix.reshape(-1, 3, n_atoms, 3).transpose(0, 2, 1, 3))


def normal_modes(system: System) -> NormalModes:
    """Return all 3N - 3 normal modes of a system as one matrix (for cells of up to some hundreds of atoms).

    Raises:
        InputError: the system has no force constants.
    """
    modes = harmonic_modes(system)
    order = np.argsort(modes.frequencies, kind="stable")
    return NormalModes(modes.frequencies[order], modes.vectors()[:, order])


def degenerate_sets(frequencies: FloatArray, tolerance: float = 0.001) -> list[IntArray]:
    """Group modes of equal frequency: indices of each set, sets by rising frequency.

    Two modes are in one set where a chain of neighbours less than ``tolerance`` (THz) apart joins them; the members
    of a star of q-points thus fall together, as symmetry demands.
    """
    order = np.argsort(frequencies, kind="stable")
    cuts = np.flatnonzero(np.diff(np.asarray(frequencies)[order]) > tolerance) + 1
    return [np.sort(group) for group in np.split(order, cuts)] if len(order) else []


def frequencies_of(eigenvalues: FloatArray) -> FloatArray:
    """Return THz of eigenvalues in eV/(Å² amu), negative where the frequency is imaginary."""
    return np.asarray(np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * THZ_PER_ROOT)


def required_force_constants(system: System) -> FloatArray:
    """Return the compact force constants of a system or say what is missing."""
    shape = (len(system.primitive_atoms), len(system.supercell.numbers), 3, 3)
    if system.force_constants is None:
        raise InputError(
            f"system {system.name!r} must have force constants but got none; "
            "give systems.force_constants a phonopy file or from-labeler"
        )
    if system.force_constants.shape != shape:
        raise InputError(
            f"force constants of system {system.name!r} must have shape {shape} but got "
            f"{system.force_constants.shape}; compute them for the same supercell"
        )
    return system.force_constants


def _dynamical_matrix(constants: FloatArray, lattice: Lattice, masses: FloatArray, q: int) -> NDArray[np.complex128]:
    """Return D(q) [3p, 3p] with phases of lattice translations: Σ_l Φ(κ0, κ'l) exp(2πi q·l) / √(M_κ M_κ')."""
    phases = np.exp(1j * lattice.phases[q])
    # a, k primitive atoms, l translation relative to atom a, x, y directions
    blocks = np.einsum("aklxy,l->axky", constants[:, lattice.atoms], phases)
    blocks /= np.sqrt(masses[:, None, None, None] * masses[None, None, :, None])
    matrix = blocks.reshape(3 * len(masses), 3 * len(masses))
    return np.asarray((matrix + matrix.conj().T) / 2)


def _without_translations(matrix: FloatArray, masses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Diagonalise the Gamma block [3p, 3p] in the space orthogonal to the three rigid translations."""
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))  # [3p, 3]
    complement = np.linalg.qr(rigid, mode="complete")[0][:, 3:]  # [3p, 3p - 3]
    eigenvalues, vectors = np.linalg.eigh(complement.T @ matrix @ complement)
    return eigenvalues, complement @ vectors


def _real_pair(eigenvalues: FloatArray, vectors: NDArray[np.complex128]) -> tuple[FloatArray, FloatArray]:
    """Return the two real modes of each complex one: Re(a e exp(iq·l)) for a = 1 and a = -i."""
    first = np.concatenate([vectors.real, -vectors.imag])
    second = np.concatenate([vectors.imag, vectors.real])
    both = np.stack([first, second], axis=2).reshape(len(first), -1)
    return np.repeat(eigenvalues, 2), both
