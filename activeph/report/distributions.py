"""What each arm spent its labels on: how far atoms were displaced, and how much energy that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from activeph.records import Configuration, Entry, System
from activeph.report.results import Results
from activeph.report.style import arm_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEST_SET = "test set"


def rms_displacement(configuration: Configuration, reference: Configuration) -> float:
    """Return the rms displacement per atom in Å from the reference scaled to the same cell.

    Nearest images are taken and the rigid shift of all atoms is removed.
    """
    fractional = configuration.positions @ np.linalg.inv(configuration.cell)
    difference = fractional - reference.positions @ np.linalg.inv(reference.cell)
    difference -= difference[0]  # a common shift must not move some atoms across the border of the nearest image
    displacements = (difference - np.round(difference)) @ configuration.cell
    displacements -= displacements.mean(axis=0)
    return float(np.sqrt(np.mean(np.sum(displacements**2, axis=1))))


def by_arm(entries: Sequence[Entry], arms: Sequence[str]) -> dict[str, list[Entry]]:
    """Return the entries that each arm paid for, and those of the test set; empty groups are left out."""
    groups = {arm: [entry for entry in entries if arm in entry.arms] for arm in arms}
    groups[TEST_SET] = [entry for entry in entries if entry.split == "test"]
    return {name: members for name, members in groups.items() if members}


def distributions(results: Results, entries: Sequence[Entry], systems: Mapping[str, System]) -> Figure:
    """Return cumulated rms displacements and energies above the lowest label, one row per system."""
    from matplotlib.figure import Figure

    names = sorted({entry.system for entry in entries})
    figure = Figure(figsize=(10, 0.4 + 2.9 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(panels, names, strict=True):
        own = [entry for entry in entries if entry.system == name]
        lowest = min(_energy_per_atom(entry) for entry in own)
        groups = by_arm(own, list(results.rounds))
        if name in systems:
            reference = systems[name].supercell
            moved = {k: [rms_displacement(e.label.configuration, reference) for e in v] for k, v in groups.items()}
            _cumulated(row[0], moved, results, f"{name}: rms displacement of atoms (Å)")
        else:
            row[0].remove()
        energies = {k: [1000 * (_energy_per_atom(e) - lowest) for e in v] for k, v in groups.items()}
        _cumulated(row[1], energies, results, f"{name}: energy above the lowest label (meV per atom)")
    for axes in panels[:, 1]:
        axes.legend(fontsize=8.5, loc="lower right")
    return figure


def _energy_per_atom(entry: Entry) -> float:
    return entry.label.energy / len(entry.label.configuration.numbers)


def _cumulated(axes: Axes, groups: Mapping[str, Sequence[float]], results: Results, name: str) -> None:
    styles = arm_styles(list(results.rounds), results.baseline)
    for group, found in groups.items():
        style = styles.get(group)
        colour, line = (style.colour, style.line) if style else ("black", ":")
        axes.ecdf(found, color=colour, linestyle=line, linewidth=1.6, label=f"{group} ({len(found)})")
    axes.set_xlabel(name)
    axes.set_ylabel("share of labels below")
