"""The record of a crystal's thermal expansion, and its picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activeph.phonons.quasi_harmonic import Equilibrium
from activeph.records import FloatArray
from activeph.systems.quasi_harmonic import ExpandingCrystal

COLUMNS = ("temperature (K)", "linear strain", "volume (Å³ per supercell)", "linear expansion (1/K)",
           "bulk modulus (GPa)", "free energy (eV/atom)", "misfit (eV/atom)")  # fmt: skip
AXES = ("a", "b", "c")
SHAPE_COLUMNS = ("a (Å)", "b (Å)", "c (Å)", "alpha (°)", "beta (°)", "gamma (°)",
                 "expansion of a (1/K)", "expansion of b (1/K)", "expansion of c (1/K)")  # fmt: skip
"""Of the unit cell, where the shape is free; the linear strain and expansion are then means."""
_STEP = 10.0  # K, of the curve in the picture and of the numerical derivative
_EQUAL = 1e-9  # relative: axes that symmetry makes equal


def write_expansion(crystal: ExpandingCrystal, temperatures: Sequence[float], path: Path) -> None:
    """Write one line of a table per temperature (K) that the strains enclose. Atomic."""
    from ase.geometry import cell_to_cellpar

    n_atoms = len(crystal.system.masses)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS + SHAPE_COLUMNS if len(crystal.basis) else COLUMNS)
        for one in crystal.course(temperatures):
            energies = [one.free_energy / n_atoms, one.misfit / n_atoms]
            slope = expansion_coefficient(crystal, one.temperature)
            row = [one.temperature, crystal.strain(one), one.volume, slope, one.bulk_modulus, *energies]
            if len(crystal.basis):
                row += cell_to_cellpar(crystal.system.unit_cell.cell @ crystal.deformation(one)).tolist()
                row += axis_coefficients(crystal, one.temperature).tolist()
            writer.writerow([f"{value:.10g}" for value in row])
    os.replace(beside, path)


def expansion_coefficient(crystal: ExpandingCrystal, temperature: float) -> float:
    """Return the linear expansion coefficient in 1/K, by difference; NaN at an end of the strains."""
    ends = _beside(crystal, temperature)
    if ends is None:
        return float("nan")
    change = crystal.strain(ends[1]) - crystal.strain(ends[0])
    return change / (ends[1].temperature - ends[0].temperature) / (1 + crystal.strain(ends[0]))


def axis_coefficients(crystal: ExpandingCrystal, temperature: float) -> FloatArray:
    """Return the linear expansion coefficients [3] of the unit cell's axes in 1/K, by difference; NaN at an end."""
    ends = _beside(crystal, temperature)
    if ends is None:
        return np.full(3, np.nan)
    first, last = (axis_lengths(crystal, one) for one in ends)
    return np.asarray((last / first - 1) / (ends[1].temperature - ends[0].temperature))


def axis_lengths(crystal: ExpandingCrystal, equilibrium: Equilibrium) -> FloatArray:
    """Return the lengths [3] of the unit cell's axes in Å at an equilibrium."""
    return np.asarray(np.linalg.norm(crystal.system.unit_cell.cell @ crystal.deformation(equilibrium), axis=1))


def plot_expansion(crystals: Mapping[str, ExpandingCrystal], temperatures: Sequence[float], path: Path) -> None:
    """Draw free energy against strain at each temperature (K), and strain against temperature."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.6 * len(crystals)), layout="constrained")
    FigureCanvasAgg(figure)
    for (left, right), (name, crystal) in zip(
        figure.subplots(len(crystals), 2, squeeze=False), crystals.items(), strict=True
    ):
        _draw_free_energies(left, crystal, temperatures)
        _draw_lengths(right, crystal, temperatures)
        left.set_title(name, loc="left", fontsize=10)
    figure.savefig(path, dpi=200)


def _beside(crystal: ExpandingCrystal, temperature: float) -> tuple[Equilibrium, Equilibrium] | None:
    """Return the equilibria a little below and above a temperature, None where one is missing."""
    ends = [crystal.series.equilibrium(T) for T in (max(temperature - _STEP / 2, 0.0), temperature + _STEP / 2)]
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])


def _draw_free_energies(axes: Any, crystal: ExpandingCrystal, temperatures: Sequence[float]) -> None:
    """Draw points, fitted curve and minimum at each temperature, in meV per atom above each minimum.

    Where the shape is free the curve is that of the best shape at each volume, below the points of the given shape.
    """
    n_atoms, own = len(crystal.system.masses), abs(np.linalg.det(crystal.system.supercell.cell))
    places = crystal.strains[crystal.series.stable]
    fine = np.linspace(places.min(), places.max(), 200)
    for index, equilibrium in enumerate(crystal.course(temperatures)):
        T, least = equilibrium.temperature, equilibrium.free_energy
        curve = crystal.series.free_energy_curve(T, own * (1 + fine) ** 3)
        points = crystal.series.free_energies(T)
        colour = f"C{index}"
        scale = 1000 / n_atoms
        axes.plot(100 * fine, scale * (curve - least), color=colour, linewidth=1, label=f"{T:g} K")
        axes.plot(100 * places, scale * (points - least), ".", color=colour)
        axes.plot(100 * crystal.strain(equilibrium), 0, "v", color=colour)
    free = len(crystal.basis) > 0
    axes.set_xlabel("mean change of lengths (%)" if free else "change of all lengths (%)")
    axes.set_ylabel("free energy above its minimum (meV/atom)")
    axes.legend(frameon=False, fontsize=9, title="best shape" if free else None, title_fontsize=9)


def _draw_lengths(axes: Any, crystal: ExpandingCrystal, temperatures: Sequence[float]) -> None:
    """Draw how all lengths change with temperature, or each axis of the unit cell where the shape is free."""
    every = np.arange(0, 1.1 * max(temperatures) + _STEP, _STEP)
    course, chosen = crystal.course([float(T) for T in every]), crystal.course(temperatures)
    axes.set_xlabel("temperature (K)")
    if not len(crystal.basis):
        axes.plot([one.temperature for one in course], [100 * crystal.strain(one) for one in course], color="0.3")
        axes.plot([one.temperature for one in chosen], [100 * crystal.strain(one) for one in chosen], "o", color="C3")
        axes.set_ylabel("change of all lengths (%)")
        return
    own = np.linalg.norm(crystal.system.unit_cell.cell, axis=1)
    lines, dots = (np.array([axis_lengths(crystal, one) / own - 1 for one in some]) for some in (course, chosen))
    for colour, together in enumerate(_equal_axes(lines)):
        axes.plot(
            [one.temperature for one in course],
            100 * lines[:, together[0]],
            color=f"C{colour}",
            label=", ".join(AXES[i] for i in together),
        )
        axes.plot([one.temperature for one in chosen], 100 * dots[:, together[0]], "o", color=f"C{colour}")
    axes.set_ylabel("change of the axes (%)")
    axes.legend(frameon=False, fontsize=9)


def _equal_axes(changes: FloatArray) -> list[list[int]]:
    """Return the axes [T, 3] in groups that change alike."""
    groups: list[list[int]] = []
    for i in range(3):
        alike = (g for g in groups if np.abs(changes[:, g[0]] - changes[:, i]).max(initial=0.0) < _EQUAL)
        group = next(alike, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups
