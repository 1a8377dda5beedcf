"""What each arm spent its labels on: how far atoms were displaced, and how much energy that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from activeph.records import Configuration, Entry, System
from activeph.report.results import Results
from activeph.report.style import arm_styles
from activeph.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEST_SET = "test set"
PREPARATION = "preparation, in all arms"
_OTHERS = {TEST_SET: ("black", ":"), PREPARATION: ("#999999", "-.")}


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
    """Return the entries that each arm paid for, of the test set and of the preparation; empty groups are left out."""
    groups = {arm: [entry for entry in entries if arm in entry.arms] for arm in arms}
    groups[TEST_SET] = [entry for entry in entries if entry.split == "test"]
    groups[PREPARATION] = [entry for entry in entries if entry.split != "test" and not entry.arms]
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
            moved = {e.key: rms_displacement(e.label.configuration, reference) for e in own}
            _cumulated(row[0], groups, moved, results, "rms displacement of atoms (Å)")
        else:
            row[0].remove()
        energies = {e.key: 1000 * (_energy_per_atom(e) - lowest) for e in own}
        _cumulated(row[1], groups, energies, results, "energy above the lowest label (meV per atom)")
        row[0 if name in systems else 1].set_title(name, loc="left", fontsize=11)
    for axes in panels[:, 1]:
        axes.legend(fontsize=8.5, loc="lower right")
    return figure


def broadness_table(results: Results, entries: Sequence[Entry], systems: Mapping[str, System]) -> Table:
    """Return medians and upper ends of rms displacement and energy of the test set, each pool, and each arm's labels.

    An arm's first labels are drawn at random from its pool, so they show how broad the pool is.
    """
    rows = []
    for name in sorted({entry.system for entry in entries}):
        own = [entry for entry in entries if entry.system == name]
        lowest = min(_energy_per_atom(entry) for entry in own)
        groups = by_arm(own, list(results.rounds))
        first = {arm: _first_keys(results, arm) for arm in results.rounds}
        pools = {f"{arm}, pool": [one for one in groups.get(arm, []) if one.key in first[arm]] for arm in first}
        others = {group: groups.pop(group, []) for group in _OTHERS}
        every = {**others, **pools, **{f"{arm}, all labels": v for arm, v in groups.items()}}
        for group, found in every.items():
            if not found:
                continue
            energies = [1000 * (_energy_per_atom(entry) - lowest) for entry in found]
            moved = [np.nan]
            if name in systems:
                moved = [rms_displacement(entry.label.configuration, systems[name].supercell) for entry in found]
            rows.append((name, group, str(len(found)), *_quantiles(moved, ".3f"), *_quantiles(energies, ".3g")))
    head = (
        "system",
        "configurations",
        "number",
        "rms displacement, median (Å)",
        "95 % below",
        "energy above the lowest, median (meV/atom)",
        "95 % below",
    )
    return Table(head, tuple(rows))


def _first_keys(results: Results, arm: str) -> set[str]:
    return {pick.key for rounds in results.rounds[arm].values() for pick in rounds[0].picked}


def _quantiles(values: Sequence[float], form: str) -> tuple[str, str]:
    found = np.quantile(values, [0.5, 0.95])
    return ("-", "-") if np.isnan(found).any() else (format(found[0], form), format(found[1], form))


def _energy_per_atom(entry: Entry) -> float:
    return entry.label.energy / len(entry.label.configuration.numbers)


def _cumulated(
    axes: Axes, groups: Mapping[str, Sequence[Entry]], values: Mapping[str, float], results: Results, name: str
) -> None:
    """Draw the share of each group below a value, ``values`` by key; an arm's first labels as a thin line."""
    styles = arm_styles(list(results.rounds), results.baseline)
    for group, found in groups.items():
        style = styles.get(group)
        colour, line = (style.colour, style.line) if style else _OTHERS[group]
        every = [values[entry.key] for entry in found]
        axes.ecdf(every, color=colour, linestyle=line, linewidth=1.6, label=f"{group} ({len(found)})")
        pool = [values[entry.key] for entry in found if entry.key in _first_keys(results, group)] if style else []
        if len(pool) > 1 and len(pool) < len(every):
            axes.ecdf(pool, color=colour, linestyle=line, linewidth=0.7)
    axes.set_xlabel(name)
    axes.set_ylabel("share of labels below")
