"""When are two configurations the same calculation? Up to translation, order of like atoms, and periodic images.

Rotations and other choices of lattice vectors are different calculations: forces come back in the given frame, and
k-points follow the given cell.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from activeph.records import Configuration, IntArray, Label

FRACTIONAL_STEPS = 1_000_000  # grid of fractional coordinates: 1e-5 Å in a 10 Å cell
CELL_STEP = 1e-6  # Å
SAME_POSITION = 1e-4  # Å: more than the round-off of any file, less than any displacement
GRID_OFFSET = 0.137
"""Shifts the edges of the rounding intervals away from the simple fractions and short decimals that crystals are made
of, so that round-off (1e-16) moves a coordinate over an edge only with the probability of an accident (1e-9)."""


def configuration_key(configuration: Configuration) -> str:
    """Return 32 hex digits that two configurations share when they are the same calculation."""
    grid = _canonical(configuration)
    cell = np.floor(configuration.cell / CELL_STEP + GRID_OFFSET).astype("<i8")
    digest = hashlib.sha256(cell.tobytes())
    digest.update(np.ascontiguousarray(grid, dtype="<i8").tobytes())
    return digest.hexdigest()[:32]


def label_key(configuration: Configuration, fingerprint: str) -> str:
    """Return the ledger key of one calculation: 24 hex digits of the configuration and the labeler's fingerprint."""
    return hashlib.sha256(f"{configuration_key(configuration)} {fingerprint}".encode()).hexdigest()[:24]


def aligned(label: Label, configuration: Configuration) -> Label:
    """Return the label with its atoms in the order and at the positions of an equal configuration.

    Equal up to :data:`SAME_POSITION`, so that coordinates may have gone through a file. Energy, stress and bands are
    the same; forces [N, 3] are reordered. Raises ValueError where the configurations differ.
    """
    stored = label.configuration
    if np.array_equal(stored.numbers, configuration.numbers) and np.array_equal(
        stored.positions, configuration.positions
    ):
        return label
    order = matching_order(stored, configuration)
    if order is None:
        raise ValueError("the label belongs to another configuration")
    return dataclasses.replace(label, configuration=configuration, forces=label.forces[order])


def matching_order(stored: Configuration, wanted: Configuration) -> IntArray | None:
    """Return which atom of ``stored`` each atom of ``wanted`` is [N], None where the two are not the same crystal.

    Compared up to translation, order of like atoms and periodic images, within :data:`SAME_POSITION`.
    """
    if sorted(stored.numbers) != sorted(wanted.numbers) or np.abs(stored.cell - wanted.cell).max() > SAME_POSITION:
        return None
    inverse = np.linalg.inv(wanted.cell)
    species, counts = np.unique(wanted.numbers, return_counts=True)
    rare = species[np.argmin(counts)]
    anchor = int(np.flatnonzero(wanted.numbers == rare)[0])
    unlike = wanted.numbers[:, None] != stored.numbers[None, :]
    for origin in np.flatnonzero(stored.numbers == rare):
        targets = wanted.positions - wanted.positions[anchor]
        places = stored.positions - stored.positions[origin]
        difference = (targets[:, None, :] - places[None, :, :]) @ inverse
        distances = np.linalg.norm((difference - np.round(difference)) @ wanted.cell, axis=-1)
        distances[unlike] = np.inf
        order = np.argmin(distances, axis=1)
        if len(set(order.tolist())) == len(order) and distances.min(axis=1).max() < SAME_POSITION:
            return np.asarray(order, dtype=np.int64)
    return None


def _canonical(configuration: Configuration) -> IntArray:
    """Return the canonical grid [N, 4]: number and three coordinates of every atom, sorted.

    Every atom of the rarest species is tried as the origin; the lexicographically smallest grid wins.
    """
    numbers = np.asarray(configuration.numbers, dtype=np.int64)
    fractional = np.linalg.solve(np.asarray(configuration.cell, dtype=np.float64).T, configuration.positions.T).T
    species, counts = np.unique(numbers, return_counts=True)
    best: IntArray | None = None
    for origin in np.flatnonzero(numbers == species[np.argmin(counts)]):
        grid = _grid(fractional - fractional[origin])
        order = np.lexsort((grid[:, 2], grid[:, 1], grid[:, 0], numbers))
        candidate = np.column_stack([numbers[order], grid[order]])
        if best is None or _precedes(candidate, best):
            best = candidate
    if best is None:
        raise ValueError("a configuration needs at least one atom")
    return best


def _grid(fractional: NDArray[np.float64]) -> IntArray:
    """Return fractional coordinates as integers of a grid that closes on itself across the cell."""
    return np.floor(fractional * FRACTIONAL_STEPS + GRID_OFFSET).astype(np.int64) % FRACTIONAL_STEPS


def _precedes(first: IntArray, second: IntArray) -> bool:
    """Return whether the first integer array is lexicographically smaller than the second."""
    differing = np.flatnonzero(first.ravel() != second.ravel())
    return bool(differing.size) and bool(first.ravel()[differing[0]] < second.ravel()[differing[0]])
