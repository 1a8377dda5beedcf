"""Quasi-harmonic cells of a campaign: where a sampler asks for them, labelled through the ledger, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from activeph.config import Campaign, SystemSection
from activeph.labelled_displacements import label_displacements
from activeph.means import Means
from activeph.records import System, ThermalCell
from activeph.renormalisation import sampled_temperatures
from activeph.systems import read_phonopy, write_phonopy
from activeph.systems.files import read_force_constants
from activeph.systems.quasi_harmonic import (
    ExpandingCrystal,
    expanding_crystal,
    expansion_coefficient,
    plot_expansion,
    read_stretched,
    stretched,
    write_expansion,
)

_TABLE_STEP = 50  # K


def expanded_system(system: System, section: SystemSection, folder: Path, means: Means) -> System:
    """Return the system with its cell at every temperature at which a sampler has ``expansion: quasi-harmonic``.

    They are files of ``folder`` (``quasi-harmonic-300K.yaml``, readable by phonopy, in the expanded cell) and always
    read back from there, with a table (``quasi-harmonic.csv``) and a picture (``quasi-harmonic.png``) of the expansion.

    Raises:
        InputError: the volumes do not enclose the cell of a temperature, or too few of them are stable.
        Paused: a calculation failed.
    """
    temperatures = expansion_temperatures(means.campaign)
    if any(not cell_path(folder, T).exists() for T in temperatures):
        _expand(system, section, folder, means)
    return with_stored_cells(system, folder)


def with_stored_cells(system: System, folder: Path) -> System:
    """Return the system with all quasi-harmonic cells that a folder holds."""
    found = {}
    for path in sorted(folder.glob("quasi-harmonic-*K.yaml")):
        temperature = float(path.stem.removeprefix("quasi-harmonic-").removesuffix("K"))
        cell = read_phonopy(system.name, path).supercell.cell
        strain = np.linalg.inv(system.supercell.cell) @ cell - np.eye(3)
        constants = read_force_constants(stretched(system, float(np.trace(strain) / 3)), path).force_constants
        assert constants is not None
        found[temperature] = ThermalCell(strain, constants)
    return dataclasses.replace(system, thermal_cells=found)


def cell_path(folder: Path, temperature: float) -> Path:
    """Return the file of the cell and the force constants at a temperature."""
    return folder / f"quasi-harmonic-{temperature:g}K.yaml"


def expansion_temperatures(campaign: Campaign) -> list[float]:
    """Return the temperatures (K), rising, at which any sampler of the campaign wants a quasi-harmonic cell."""
    return sampled_temperatures(campaign, "expansion", "quasi-harmonic")


def _expand(system: System, section: SystemSection, folder: Path, means: Means) -> None:
    temperatures = expansion_temperatures(means.campaign)
    crystal = _crystal(system, section, means)
    cells = {T: crystal.cell(T) for T in temperatures}  # all of them before any file, so that a refusal leaves none
    every = sorted({*np.arange(0.0, max(temperatures) + _TABLE_STEP, _TABLE_STEP).tolist(), *temperatures})
    write_expansion(crystal, every, folder / "quasi-harmonic.csv")
    plot_expansion({section.name: crystal}, temperatures, folder / "quasi-harmonic.png")
    for temperature, cell in cells.items():
        strain = float(np.trace(cell.strain) / 3)
        slope = expansion_coefficient(crystal, temperature)
        means.progress.say(
            f"{section.name} at {temperature:g} K: all lengths {strain:+.2%}, expansion {slope:.2g} per K"
        )
        warm = dataclasses.replace(stretched(system, strain), force_constants=cell.force_constants)
        write_phonopy(warm, cell_path(folder, temperature))


def _crystal(system: System, section: SystemSection, means: Means) -> ExpandingCrystal:
    """Return the crystal at all volumes, read or labelled."""
    keys = section.quasi_harmonic
    members: Sequence[tuple[System, float]]
    if keys.files is not None:
        repeats = len(system.supercell.numbers) / len(system.unit_cell.numbers)
        members = [(read_stretched(system, one.force_constants), one.energy * repeats) for one in keys.files]
    else:
        members = [_labelled(system, section, strain, means) for strain in keys.strains]
    return expanding_crystal(system, members, keys.statistics)


def _labelled(system: System, section: SystemSection, strain: float, means: Means) -> tuple[System, float]:
    """Return a stretched copy with its force constants, and its energy in eV."""
    from activeph.systems import with_force_constants

    copy = stretched(system, strain)
    title = f"{section.name}: force constants with all lengths {strain:+.1%}"
    labeler = section.quasi_harmonic.label or means.campaign.label
    labels = label_displacements(copy, section.displacement, labeler, title, means)
    forces = np.array([label.forces for label in labels])
    return with_force_constants(copy, forces, section.displacement), labels[0].energy
