"""Thermal expansion of a crystal from its phonons at several volumes, its record and its picture."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activeph.errors import InputError
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.quasi_harmonic import Equilibrium, VolumeSeries, interpolated
from activeph.phonons.thermal import Statistics
from activeph.records import Configuration, FloatArray, System, ThermalCell
from activeph.systems.files import read_force_constants, read_phonopy

COLUMNS = ("temperature (K)", "linear strain", "volume (Å³ per supercell)", "linear expansion (1/K)",
           "bulk modulus (GPa)", "free energy (eV/atom)", "misfit (eV/atom)")  # fmt: skip
_STEP = 10.0  # K, of the curve in the picture and of the numerical derivative
_SAME_SHAPE = 0.002  # relative; a cell that differs more from a stretched one has another shape


@dataclass(frozen=True, eq=False)
class ExpandingCrystal:
    """A crystal with all lengths stretched by several factors. The shape of the cell and all fractions stay."""

    system: System
    strains: FloatArray  # [V] rising
    constants: FloatArray  # [V, n_prim, N, 3, 3] eV/Å²
    series: VolumeSeries  # of the supercell

    def cell(self, temperature: float) -> ThermalCell:
        """Return the cell of least free energy at a temperature (K), and the force constants in it.

        Raises:
            InputError: the strains do not enclose it, or fewer than four have real vibrations.
        """
        found = self.series.equilibrium(temperature)
        if found is None:
            raise InputError(self._not_enclosed(temperature))
        strain = self.strain(found)
        stable = self.series.stable
        constants = interpolated(self.strains[stable], self.constants[stable], strain)
        return ThermalCell(strain * np.eye(3), constants)

    def strain(self, equilibrium: Equilibrium) -> float:
        """Return the relative change of all lengths at an equilibrium."""
        volume = abs(np.linalg.det(self.system.supercell.cell))
        return float((equilibrium.volume / volume) ** (1 / 3) - 1)

    def course(self, temperatures: Sequence[float]) -> list[Equilibrium]:
        """Return the equilibria at those temperatures (K) where the strains enclose one."""
        found = (self.series.equilibrium(T) for T in temperatures)
        return [one for one in found if one is not None]

    def _not_enclosed(self, temperature: float) -> str:
        stable = self.series.stable
        energies = self.series.free_energies(temperature)
        side = "larger" if energies[-1] < energies[0] else "smaller"
        dropped = len(self.strains) - len(stable)
        left_out = f" (at {dropped} more the crystal is unstable)" if dropped else ""
        return (
            f"quasi_harmonic of {self.system.name!r} must enclose the cell of least free energy at {temperature:g} K "
            f"but got strains from {self.strains[stable[0]]:.2%} to {self.strains[stable[-1]]:.2%}{left_out} with the "
            f"lowest free energy at the {side} end; add {side} strains, or relax the structure with this labeler"
        )


def expanding_crystal(
    system: System, members: Sequence[tuple[System, float]], statistics: Statistics = "quantum"
) -> ExpandingCrystal:
    """Return the crystal that several strained copies of it describe.

    Args:
        system: the crystal as the campaign has it.
        members: :func:`stretched` copies with force constants, and the energy of each in eV per supercell.
        statistics: of the vibrations' free energy.
    """
    cells = np.array([member.supercell.cell for member, _ in members])
    volumes = np.abs(np.linalg.det(cells))
    order = np.argsort(volumes)
    own = abs(np.linalg.det(system.supercell.cell))
    return ExpandingCrystal(
        system,
        (volumes[order] / own) ** (1 / 3) - 1,
        np.array([members[i][0].force_constants for i in order]),
        VolumeSeries(
            volumes[order],
            np.array([members[i][1] for i in order]),
            [harmonic_modes(members[i][0]).frequencies for i in order],
            statistics,
        ),
    )


def stretched(system: System, strain: float) -> System:
    """Return the crystal with all lengths times 1 + strain, without force constants."""

    def longer(cell: Configuration) -> Configuration:
        return dataclasses.replace(cell, positions=cell.positions * (1 + strain), cell=cell.cell * (1 + strain))

    return dataclasses.replace(
        system,
        unit_cell=longer(system.unit_cell),
        supercell=longer(system.supercell),
        force_constants=None,
        effective_force_constants={},
        thermal_cells={},
    )


def read_stretched(system: System, path: Path) -> System:
    """Return the stretched copy of a system that a phonopy file describes, with its force constants.

    Raises:
        InputError: another crystal, or one of another shape.
    """
    found = read_phonopy(system.name, path)
    ours, theirs = (crystal.primitive_matrix.T @ crystal.unit_cell.cell for crystal in (system, found))
    strain = float(abs(np.linalg.det(theirs) / np.linalg.det(ours)) ** (1 / 3) - 1)
    relation = theirs @ np.linalg.inv(ours) / (1 + strain)
    if np.abs(relation - np.rint(relation)).max() > _SAME_SHAPE:
        raise InputError(
            f"quasi_harmonic.files must hold the cell of {system.name!r} with all lengths stretched alike but got "
            f"another shape or orientation in {path}; compute it from the stretched structure"
        )
    return read_force_constants(stretched(system, strain), path)


def write_expansion(crystal: ExpandingCrystal, temperatures: Sequence[float], path: Path) -> None:
    """Write one line of a table per temperature (K) that the strains enclose. Atomic."""
    n_atoms = len(crystal.system.masses)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in crystal.course(temperatures):
            energies = [one.free_energy / n_atoms, one.misfit / n_atoms]
            slope = expansion_coefficient(crystal, one.temperature)
            place = [one.temperature, crystal.strain(one), one.volume, slope, one.bulk_modulus]
            writer.writerow([f"{value:.10g}" for value in [*place, *energies]])
    os.replace(beside, path)


def expansion_coefficient(crystal: ExpandingCrystal, temperature: float) -> float:
    """Return the linear expansion coefficient in 1/K, by difference; NaN at an end of the strains."""
    ends = [crystal.series.equilibrium(T) for T in (max(temperature - _STEP / 2, 0.0), temperature + _STEP / 2)]
    if ends[0] is None or ends[1] is None:
        return float("nan")
    change = crystal.strain(ends[1]) - crystal.strain(ends[0])
    return change / (ends[1].temperature - ends[0].temperature) / (1 + crystal.strain(ends[0]))


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
        every = np.arange(0, 1.1 * max(temperatures) + _STEP, _STEP)
        course = crystal.course([float(T) for T in every])
        right.plot([one.temperature for one in course], [100 * crystal.strain(one) for one in course], color="0.3")
        chosen = crystal.course(temperatures)
        right.plot([one.temperature for one in chosen], [100 * crystal.strain(one) for one in chosen], "o", color="C3")
        right.set_xlabel("temperature (K)")
        right.set_ylabel("change of all lengths (%)")
        left.set_title(name, loc="left", fontsize=10)
    figure.savefig(path, dpi=200)


def _draw_free_energies(axes: object, crystal: ExpandingCrystal, temperatures: Sequence[float]) -> None:
    """Draw points, fitted curve and minimum at each temperature, in meV per atom above each minimum."""
    n_atoms, own = len(crystal.system.masses), abs(np.linalg.det(crystal.system.supercell.cell))
    places = crystal.strains[crystal.series.stable]
    fine = np.linspace(places.min(), places.max(), 200)
    for index, equilibrium in enumerate(crystal.course(temperatures)):
        T, least = equilibrium.temperature, equilibrium.free_energy
        curve = crystal.series.free_energy_curve(T, own * (1 + fine) ** 3)
        points = crystal.series.free_energies(T)
        colour = f"C{index}"
        scale = 1000 / n_atoms
        axes.plot(100 * fine, scale * (curve - least), color=colour, linewidth=1, label=f"{T:g} K")  # type: ignore[attr-defined]
        axes.plot(100 * places, scale * (points - least), ".", color=colour)  # type: ignore[attr-defined]
        axes.plot(100 * crystal.strain(equilibrium), 0, "v", color=colour)  # type: ignore[attr-defined]
    axes.set_xlabel("change of all lengths (%)")  # type: ignore[attr-defined]
    axes.set_ylabel("free energy above its minimum (meV/atom)")  # type: ignore[attr-defined]
    axes.legend(frameon=False, fontsize=9)  # type: ignore[attr-defined]
