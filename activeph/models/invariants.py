"""Polynomials of a system's normal coordinates that no symmetry operation of the crystal changes.

A scalar property expands as p = p₀ + Σ a_s Q_s + Σ b_st Q_s Q_t + ...; symmetry keeps only the invariant sums. The
second-order ones are the powers Σ Q² of sets of degenerate modes (the electron-phonon coupling to second order, with
which a thermal gap shifts) and products of different sets of the same symmetry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from activeph.errors import InputError
from activeph.graphs.displacements import displacements
from activeph.phonons.modes import NormalModes, degenerate_sets, normal_modes
from activeph.records import Block, FloatArray, IntArray, System

SYMMETRY_TOLERANCE = 1e-3  # Å
MAX_CROSS_TERMS = 200  # products of different sets beyond this number would be fitted by no realistic dataset
MAX_NUMBERS = 3e7  # of all operations on all modes (0.25 GB); larger cells are left with first order and powers


@dataclass(frozen=True, eq=False)
class Bilinear:
    """Σ Q_a W_ab Q_b over the modes of two sets (or one)."""

    first: IntArray
    second: IntArray
    weights: FloatArray


class ModeInvariants:
    """The invariants of one system up to second order, and the amplitude √(Σ Q²) of each set."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._modes = normal_modes(system)
        self._sets = degenerate_sets(self._modes.frequencies)
        operations = _space_group(system)
        self._linear = _invariant_vectors(_mean_operation(operations, self._modes))
        self._quadratic = list(self._bilinears(operations))

    @property
    def count(self) -> int:
        """Number of invariants per configuration."""
        return int(self._linear.shape[1]) + len(self._quadratic) + len(self._sets)

    def evaluate(self, block: Block) -> FloatArray:
        """Return the invariants [B, count]: first order, second order (amu Å²), amplitudes (amu^(1/2) Å)."""
        coordinates = self._modes.coordinates(displacements(block, self._system), self._system.masses)
        columns = [coordinates @ self._linear]
        for form in self._quadratic:
            product = (coordinates[:, form.first] @ form.weights) * coordinates[:, form.second]
            columns.append(product.sum(axis=1, keepdims=True))
        for modes in self._sets:
            columns.append(np.linalg.norm(coordinates[:, modes], axis=1, keepdims=True))
        return np.concatenate(columns, axis=1)

    def _bilinears(self, space_group: Sequence[Operation]) -> Iterator[Bilinear]:
        n_modes = len(self._modes.frequencies)
        if len(space_group) * n_modes**2 > MAX_NUMBERS:
            for modes in self._sets:
                yield Bilinear(modes, modes, np.eye(len(modes)) / np.sqrt(len(modes)))
            return
        operations = np.array([self._modes.vectors.T @ one.apply(self._modes.vectors) for one in space_group])
        for modes in self._sets:
            yield from _invariant_forms(operations, modes, modes)
        cross = [
            form
            for number, first in enumerate(self._sets)
            for second in self._sets[number + 1 :]
            for form in _invariant_forms(operations, first, second)
        ]
        if len(cross) <= MAX_CROSS_TERMS:
            yield from cross


def invariants_of(system: System) -> ModeInvariants:
    """Return the invariants of a system, found once per process for equal crystals."""
    cell = system.supercell
    constants = b"" if system.force_constants is None else system.force_constants.tobytes()
    parts = (cell.numbers.tobytes(), cell.positions.tobytes(), cell.cell.tobytes(), system.masses.tobytes(), constants)
    key = hashlib.sha256(b"".join(parts)).hexdigest()
    if key not in _KNOWN:
        _KNOWN[key] = ModeInvariants(system)
    return _KNOWN[key]


_KNOWN: dict[str, ModeInvariants] = {}


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of the supercell's space group: atom n goes to site ``images[n]``, its displacement is turned."""

    images: IntArray  # [N]
    turn: FloatArray  # [3, 3]

    def apply(self, vectors: FloatArray) -> FloatArray:
        """Return displacement patterns [3N, M] after the operation."""
        atoms = vectors.reshape(len(self.images), 3, -1)
        result = np.empty_like(atoms)
        result[self.images] = np.einsum("xy,nym->nxm", self.turn, atoms)
        return result.reshape(vectors.shape)


def _space_group(system: System) -> list[Operation]:
    import spglib

    supercell = system.supercell
    fractional = supercell.positions @ np.linalg.inv(supercell.cell)
    symmetry = spglib.get_symmetry((supercell.cell, fractional, supercell.numbers), symprec=SYMMETRY_TOLERANCE)
    if symmetry is None:
        raise InputError(
            f"the supercell of system {system.name!r} must have a space group but got none; check for atoms on top of "
            "each other."
        )
    operations = []
    for rotation, shift in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        apart = (fractional @ rotation.T + shift)[:, None] - fractional[None, :]
        apart -= np.round(apart)
        images = np.argmin(np.sum((apart @ supercell.cell) ** 2, axis=2), axis=1)
        operations.append(Operation(images, supercell.cell.T @ rotation @ np.linalg.inv(supercell.cell.T)))
    return operations


def _mean_operation(operations: Sequence[Operation], modes: NormalModes) -> FloatArray:
    """Return the mean of all operations as a matrix [M, M] on normal coordinates."""
    n_atoms = len(operations[0].images)
    total = np.zeros((n_atoms, n_atoms, 3, 3))
    for one in operations:
        total[one.images, np.arange(n_atoms)] += one.turn
    mean = total.transpose(0, 2, 1, 3).reshape(3 * n_atoms, 3 * n_atoms) / len(operations)
    return np.asarray(modes.vectors.T @ mean @ modes.vectors)


def _invariant_vectors(mean: FloatArray) -> FloatArray:
    """Return orthonormal columns [M, L] that span what the mean over the group, a projector, leaves alone."""
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    return np.asarray(vectors[:, values > 0.5])


def _invariant_forms(operations: FloatArray, first: IntArray, second: IntArray) -> Iterator[Bilinear]:
    """Yield invariant bilinear forms of two sets: random ones averaged over the group until none is new."""
    left = operations[:, first[:, None], first]
    right = operations[:, second[:, None], second]
    rng = np.random.Generator(np.random.SFC64(0))
    known: list[FloatArray] = []
    while True:
        trial = rng.normal(size=(len(first), len(second)))
        if not known and first is second:
            trial = np.eye(len(first))  # the power of the set
        mean = np.mean(np.transpose(left, (0, 2, 1)) @ trial @ right, axis=0)
        if first is second:
            mean = (mean + mean.T) / 2
        size = np.linalg.norm(mean)
        for form in known:
            mean = mean - form * np.sum(form * mean)
        left_over = np.linalg.norm(mean)
        if left_over < 1e-3 * np.sqrt(mean.size) or left_over < 1e-3 * size:
            return
        known.append(mean / left_over)
        yield Bilinear(first, second, known[-1])
