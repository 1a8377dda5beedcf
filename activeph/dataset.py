"""From labels to the arrays that models train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from activeph.records import Block, Configuration, Dataset, FloatArray, Label
from activeph.targets import ELECTRONIC, read_targets


def stack(system: str, configurations: Sequence[Configuration], temperatures: Sequence[float]) -> Block:
    """Return configurations of one system as a block."""
    return Block(
        system=system,
        species=np.stack([configuration.numbers for configuration in configurations]),
        positions=np.stack([configuration.positions for configuration in configurations]),
        cells=np.stack([configuration.cell for configuration in configurations]),
        temperatures=np.asarray(temperatures, dtype=np.float64),
    )


def system_order(systems: Sequence[str]) -> list[int]:
    """Return the order in which a dataset holds items: systems by name, within a system as given."""
    return sorted(range(len(systems)), key=lambda index: (systems[index], index))


def make_dataset(
    labels: Sequence[Label],
    systems: Sequence[str],
    temperatures: Sequence[float],
    target_names: Sequence[str],
    low_fidelity: Sequence[Label | None] | None = None,
) -> Dataset:
    """Return the dataset of labels, the system's name and temperature (K) of each given beside it.

    ``low_fidelity`` are labels of the same configurations by a cheap code, None where it gave none.
    """
    order = system_order(systems)
    blocks, forces = [], []
    for name in sorted(set(systems)):
        rows = [index for index in order if systems[index] == name]
        block = stack(name, [labels[i].configuration for i in rows], [temperatures[i] for i in rows])
        if low_fidelity is not None:
            block = replace(block, low_fidelity=np.array([electronic(low_fidelity[i]) for i in rows]))
        blocks.append(block)
        forces.append(np.stack([labels[i].forces for i in rows]))
    ordered = [labels[index] for index in order]
    return Dataset(
        blocks=tuple(blocks),
        target_names=tuple(target_names),
        targets=np.array([read_targets(label, target_names) for label in ordered]).reshape(-1, len(target_names)),
        energies=np.array([label.energy for label in ordered]),
        forces=tuple(forces),
        stresses=np.array([label.stress for label in ordered]).reshape(-1, 6),
    )


def electronic(label: Label | None) -> FloatArray:
    """Return the targets read off a label's bands [3], NaN without a label."""
    return np.full(len(ELECTRONIC), np.nan) if label is None else read_targets(label, ELECTRONIC)
