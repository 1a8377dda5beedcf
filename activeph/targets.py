"""The scalar properties a campaign can learn: names, units, and how each is read off a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray, Label

EV_PER_A3_IN_GPA = 160.21766208


@dataclass(frozen=True)
class Target:
    """One scalar property. ``unit`` is used inside, ``printed_unit`` = ``unit`` times ``printed_factor`` in reports."""

    name: str
    unit: str
    printed_unit: str
    printed_factor: float
    read: Callable[[Label], float]


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("band_gap", "eV", "eV", 1.0, lambda label: label.band_gap),
        Target("valence_band_maximum", "eV", "eV", 1.0, lambda label: label.valence_band_maximum),
        Target("conduction_band_minimum", "eV", "eV", 1.0, lambda label: label.conduction_band_minimum),
        Target("energy_per_atom", "eV", "meV", 1000.0, lambda label: label.energy / len(label.configuration.numbers)),
        Target(
            "hydrostatic_stress",
            "eV/Å³",
            "GPa",
            EV_PER_A3_IN_GPA,
            lambda label: float(np.mean(label.stress[:3])),
        ),
    )
}


def read_targets(label: Label, names: Sequence[str]) -> FloatArray:
    """Return the targets [P] of one label, in the units of :data:`TARGETS`."""
    return np.array([TARGETS[name].read(label) for name in names], dtype=np.float64)
