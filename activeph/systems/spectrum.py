"""Phonon bands and density of states of a system, and their picture: before and after, one temperature or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activeph.errors import InputError
from activeph.records import FloatArray, System
from activeph.systems.load import phonopy_of
from activeph.systems.voids import empty_directions


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Frequencies in THz (negative where imaginary) along a path and over the whole Brillouin zone."""

    distances: tuple[FloatArray, ...]  # one [n] per straight piece of the path, 1/Å
    bands: tuple[FloatArray, ...]  # one [n, 3p] per piece
    labels: tuple[tuple[str, str], ...]  # names of the ends of each piece
    frequencies: FloatArray  # [W] of the density of states
    density: FloatArray  # [W] states per THz and primitive cell

    @property
    def lowest(self) -> float:
        """Lowest frequency along the path."""
        return float(min(band.min() for band in self.bands))


def spectrum(system: System, points: int = 60, mesh: float = 40.0) -> Spectrum:
    """Return bands along the lattice's conventional path and the density of states (phonopy, NAC with Born charges).

    Args:
        system: with force constants.
        points: per straight piece of the path.
        mesh: density of the q-mesh as phonopy's length, Å.

    Raises:
        InputError: the system has no force constants.
    """
    if system.force_constants is None:
        raise InputError(
            f"system {system.name!r} must have force constants for its phonons but got none; "
            "give systems.force_constants a phonopy file or from-labeler"
        )
    phonon = phonopy_of(system)
    pieces, labels = _path(system, points)
    phonon.run_band_structure(pieces)
    result = phonon.band_structure
    phonon.run_mesh(mesh)
    phonon.run_total_dos()
    dos = phonon.total_dos
    return Spectrum(
        tuple(np.asarray(piece) for piece in result.distances),
        tuple(np.asarray(piece) for piece in result.frequencies),
        labels,
        np.asarray(dos.frequency_points),
        np.asarray(dos.dos),
    )


def plot_spectra(spectra: Mapping[str, Spectrum], path: Path) -> None:
    """Draw bands and density of states of one crystal, one colour per name, into a picture (.png, .svg, .pdf).

    Imaginary frequencies are drawn below zero on a shaded ground.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    bands, density = figure.subplots(1, 2, width_ratios=[3, 1], sharey=True)
    for index, (name, data) in enumerate(spectra.items()):
        colour = f"C{index}"
        for distance, piece in zip(data.distances, data.bands, strict=True):
            bands.plot(distance, piece, color=colour, linewidth=1)
        bands.plot([], [], color=colour, label=name)
        density.plot(data.density, data.frequencies, color=colour, linewidth=1)
    _mark_path(bands, next(iter(spectra.values())))
    low = min(data.lowest for data in spectra.values())
    for axes in (bands, density):
        axes.axhline(0, color="0.6", linewidth=0.8)
        if low < -0.05:
            axes.axhspan(1.1 * low, 0, color="0.94", zorder=-1)
    high = max(float(band.max()) for data in spectra.values() for band in data.bands)
    bands.set_ylim(1.1 * min(low, 0), 1.05 * high)
    bands.set_ylabel("frequency (THz), imaginary below zero" if low < -0.05 else "frequency (THz)")
    figure.legend(*bands.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=6, fontsize=9)
    density.set_xlabel("states per THz and cell")
    density.set_xlim(left=0)
    figure.savefig(path, dpi=200)


def effective_spectra(system: System) -> dict[str, Spectrum]:
    """Return the harmonic spectrum of a system and those of all its force constants at temperatures, by name."""
    spectra = {"harmonic": spectrum(system)}
    for temperature in sorted(system.effective_force_constants):
        constants = system.effective_force_constants[temperature]
        spectra[f"{temperature:g} K"] = spectrum(dataclasses.replace(system, force_constants=constants))
    for temperature, warm in sorted(system.thermal_cells.items()):
        expanded = dataclasses.replace(system, force_constants=warm.force_constants)
        spectra[f"{temperature:g} K, expanded"] = spectrum(expanded)
    return spectra


def _path(system: System, points: int) -> tuple[list[FloatArray], tuple[tuple[str, str], ...]]:
    """Return q-points (fractions of the reciprocal primitive vectors) of each straight piece, and its end names.

    The path of a layer or a chain in vacuum is that of its own lattice, of two dimensions or one.
    """
    from ase.cell import Cell

    cell = Cell(system.primitive_matrix.T @ system.unit_cell.cell)
    empty = empty_directions(dataclasses.replace(system.unit_cell, cell=cell.array))
    path = cell.bandpath(npoints=0, pbc=True if empty.all() else ~empty)
    pieces, labels = [], []
    for part in _names(path.path):
        for start, end in zip(part, part[1:], strict=False):
            ends = path.special_points[start], path.special_points[end]
            pieces.append(np.linspace(*ends, points))
            labels.append((start, end))
    return pieces, tuple(labels)


def _names(path: str) -> list[list[str]]:
    """Split "GXM,RX1" into [["G", "X", "M"], ["R", "X1"]]."""
    from ase.dft.kpoints import parse_path_string

    return [list(part) for part in parse_path_string(path)]


def _mark_path(axes: object, data: Spectrum) -> None:
    """Write the names of the special points under the bands."""
    places: dict[float, str] = {}
    for distance, (start, end) in zip(data.distances, data.labels, strict=True):
        for place, name in ((float(distance[0]), start), (float(distance[-1]), end)):
            shown = "Γ" if name == "G" else name
            place = next((known for known in places if abs(known - place) < 1e-6), place)
            known = places.get(place)
            places[place] = shown if known in (None, shown) else f"{known}|{shown}"
    for place in places:
        axes.axvline(place, color="0.8", linewidth=0.6)  # type: ignore[attr-defined]
    axes.set_xticks(list(places), _apart(places))  # type: ignore[attr-defined]
    axes.set_xlim(min(places), max(places))  # type: ignore[attr-defined]


def _apart(places: Mapping[float, str]) -> list[str]:
    """Return the names, one line lower where the one before is so near that they would overlap."""
    words: list[str] = []
    last, length = -np.inf, max(places) - min(places)
    for place, name in places.items():
        near = place - last < (0.012 + 0.008 * len(name)) * length and not words[-1].startswith("\n")
        words.append("\n" * near + name)
        last = place
    return words
