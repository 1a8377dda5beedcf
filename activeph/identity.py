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
GRID_OFFSET = 0.137
"""Shifts the edges of the rounding intervals away from the simple fractions and short decimals that crystals are made
of, so that round-off (1e-16) moves a coordinate over an edge only with the probability of an accident (1e-9)."""


def configuration_key(configuration: Configuration) -> str:
    """Return 32 hex digits that two configurations share when they are the same calculation."""
    grid, _ = _canonical(configuration)
    cell = np.floor(configuration.cell / CELL_STEP + GRID_OFFSET).astype("<i8")
    digest = hashlib.sha256(cell.tobytes())
    digest.update(np.ascontiguousarray(grid, dtype="<i8").tobytes())
    return digest.hexdigest()[:32]


def label_key(configuration: Configuration, fingerprint: str) -> str:
    """Return the ledger key of one calculation: 24 hex digits of the configuration and the labeler's fingerprint."""
    return hashlib.sha256(f"{configuration_key(configuration)} {fingerprint}".encode()).hexdigest()[:24]


def aligned(label: Label, configuration: Configuration) -> Label:
    """Return the label with its atoms in the order and at the positions of a configuration that has the same key.

    Energy, stress and bands are the same; forces [N, 3] are reordered. Raises ValueError where the keys differ.
    """
    stored = label.configuration
    if np.array_equal(stored.numbers, configuration.numbers) and np.array_equal(
        stored.positions, configuration.positions
    ):
        return label
    stored_grid, stored_order = _canonical(stored)
    wanted_grid, wanted_order = _canonical(configuration)
    if not np.array_equal(stored_grid, wanted_grid):
        raise ValueError("the label belongs to another configuration: their keys differ")
    forces = np.empty_like(label.forces)
    forces[wanted_order] = label.forces[stored_order]
    return dataclasses.replace(label, configuration=configuration, forces=forces)


def _canonical(configuration: Configuration) -> tuple[IntArray, IntArray]:
    """Return the canonical grid [N, 4] (number, three coordinates) and the order [N] of atoms that gives it.

    Every atom of the rarest species is tried as the origin; the lexicographically smallest grid wins.
    """
    numbers = np.asarray(configuration.numbers, dtype=np.int64)
    fractional = np.linalg.solve(np.asarray(configuration.cell, dtype=np.float64).T, configuration.positions.T).T
    species, counts = np.unique(numbers, return_counts=True)
    origins = np.flatnonzero(numbers == species[np.argmin(counts)])
    best_grid: IntArray | None = None
    best_order = origins
    for origin in origins:
        grid = _grid(fractional - fractional[origin])
        order = np.lexsort((grid[:, 2], grid[:, 1], grid[:, 0], numbers))
        candidate = np.column_stack([numbers[order], grid[order]])
        if best_grid is None or _precedes(candidate, best_grid):
            best_grid, best_order = candidate, order
    if best_grid is None:
        raise ValueError("a configuration needs at least one atom")
    return best_grid, best_order


def _grid(fractional: NDArray[np.float64]) -> IntArray:
    """Return fractional coordinates as integers of a grid that closes on itself across the cell."""
    return np.floor(fractional * FRACTIONAL_STEPS + GRID_OFFSET).astype(np.int64) % FRACTIONAL_STEPS


def _precedes(first: IntArray, second: IntArray) -> bool:
    """Return whether the first integer array is lexicographically smaller than the second."""
    differing = np.flatnonzero(first.ravel() != second.ravel())
    return bool(differing.size) and bool(first.ravel()[differing[0]] < second.ravel()[differing[0]])
