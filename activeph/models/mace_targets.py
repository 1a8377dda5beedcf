"""Which targets a potential can learn, and how they follow from its energy, forces and stress."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from activeph.records import Block, Configuration, FloatArray, Label
from activeph.targets import TARGETS, read_targets

NOTHING = np.zeros((0, 0, 0))


def potential_targets() -> tuple[str, ...]:
    """Return the names of the targets that are read off energy, forces and stress, without any electron."""
    atom = Configuration(np.ones(1, dtype=np.int64), np.zeros((1, 3)), np.eye(3))
    blind = _blind_label(atom, 0.0, np.zeros((1, 3)), np.zeros(6))
    return tuple(name for name, target in TARGETS.items() if np.isfinite(target.read(blind)))


def targets_of(
    block: Block, names: Sequence[str], energies: FloatArray, forces: FloatArray, stresses: FloatArray
) -> FloatArray:
    """Return the targets [B, P] of a block from energies [B], forces [B, N, 3] and stresses [B, 6]."""
    labels = (
        _blind_label(block.configuration(row), float(energies[row]), forces[row], stresses[row])
        for row in range(len(block))
    )
    return np.array([read_targets(label, names) for label in labels]).reshape(len(block), len(names))


def _blind_label(configuration: Configuration, energy: float, forces: FloatArray, stress: FloatArray) -> Label:
    return Label(configuration, energy, forces, stress, np.nan, np.nan, np.nan, np.nan, NOTHING, NOTHING)
