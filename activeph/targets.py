"""The properties a campaign can learn: names, units, and how each is read off a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray, Label

EV_PER_A3_IN_GPA = 160.21766208


@dataclass(frozen=True)
class Target:
    """One number: a scalar property or a component of a tensor.

    ``unit`` is used inside, ``printed_unit`` = ``unit`` times ``printed_factor`` in reports.
    """

    name: str
    unit: str
    printed_unit: str
    printed_factor: float
    read: Callable[[Label], float]


ELECTRONIC = ("band_gap", "valence_band_maximum", "conduction_band_minimum")
"""Targets that are read off the bands"""
HYDROSTATIC_STRESS = "hydrostatic_stress"
STRESS_COMPONENTS = ("stress_xx", "stress_yy", "stress_zz", "stress_yz", "stress_xz", "stress_xy")
"""In the order and with the sign of ASE, on the axes that the structure is given in"""
WORDS = {"stress": STRESS_COMPONENTS}
"""Words that stand for several targets in a campaign file"""


def _component(number: int) -> Callable[[Label], float]:
    return lambda label: float(label.stress[number])


def _mean_of_three(stress: FloatArray) -> float:
    """Return the mean of the first three components; NumPy's own mean gives the same digits in ten times the time."""
    xx, yy, zz = stress[:3].tolist()
    return float((xx + yy + zz) / 3)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("band_gap", "eV", "eV", 1.0, lambda label: label.band_gap),
        Target("valence_band_maximum", "eV", "eV", 1.0, lambda label: label.valence_band_maximum),
        Target("conduction_band_minimum", "eV", "eV", 1.0, lambda label: label.conduction_band_minimum),
        Target("energy_per_atom", "eV", "meV", 1000.0, lambda label: label.energy / len(label.configuration.numbers)),
        Target(
            HYDROSTATIC_STRESS,
            "eV/Å³",
            "GPa",
            EV_PER_A3_IN_GPA,
            lambda label: _mean_of_three(label.stress),
        ),
        *(
            Target(name, "eV/Å³", "GPa", EV_PER_A3_IN_GPA, _component(number))
            for number, name in enumerate(STRESS_COMPONENTS)
        ),
    )
}


def read_targets(label: Label, names: Sequence[str]) -> FloatArray:
    """Return the targets [P] of one label, in the units of :data:`TARGETS`."""
    return np.array([TARGETS[name].read(label) for name in names], dtype=np.float64)


def spell_out(words: Sequence[str]) -> tuple[str, ...]:
    """Return the names of targets that a list of names and :data:`WORDS` stands for."""
    return tuple(name for word in words for name in WORDS.get(word, (word,)))
