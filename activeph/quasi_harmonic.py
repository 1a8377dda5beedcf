"""Quasi-harmonic cells of a campaign: where a sampler asks for them, labelled through the ledger, once.

Where the shape of the cell is free, atoms are relaxed in every cell first, along the displacements that symmetry leaves
free: quasi-Newton steps from the crystal's own force constants, each step one label per cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from activeph.config import Campaign, SystemSection
from activeph.errors import InputError
from activeph.labelled_displacements import label_all, label_displacements
from activeph.means import Means
from activeph.phonons.free_shape import chosen_cells
from activeph.phonons.lattice import primitive_lattice
from activeph.phonons.modes import required_force_constants
from activeph.records import FloatArray, System
from activeph.renormalisation import sampled_temperatures
from activeph.systems import finite_displacements, with_force_constants, write_phonopy
from activeph.systems.expansion import axis_coefficients, expansion_coefficient, plot_expansion, write_expansion
from activeph.systems.freedom import deformed, free_shapes, free_shifts
from activeph.systems.quasi_harmonic import (
    ExpandingCrystal,
    cell_deformation,
    expanding_crystal,
    read_deformed,
    read_stretched,
    read_thermal_cell,
    stretched,
)
from activeph.systems.voids import empty_directions

_TABLE_STEP = 50  # K
_AT_REST = 5e-4  # Å: atoms that would still move by less are relaxed
_MOST_STEPS = 12  # of relaxation; two or three are usual
_LARGEST_STEP = 0.1  # Å
_SOFTEST = 0.3  # eV/Å², least stiffness assumed of a free displacement


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
        found[temperature] = read_thermal_cell(system, path)
    return dataclasses.replace(system, thermal_cells=found)


def cell_path(folder: Path, temperature: float) -> Path:
    """Return the file of the cell and the force constants at a temperature."""
    return folder / f"quasi-harmonic-{temperature:g}K.yaml"


def expansion_temperatures(campaign: Campaign) -> list[float]:
    """Return the temperatures (K), rising, at which any sampler of the campaign wants a quasi-harmonic cell."""
    return sampled_temperatures(campaign, "expansion", "quasi-harmonic")


def expected_labels(system: System, section: SystemSection) -> int:
    """Return about how many calculations the cells of a system take."""
    keys, each = section.quasi_harmonic, len(finite_displacements(system, section.displacement))
    if keys.shape == "kept":
        return each * len(keys.strains)
    relaxing = 2 if len(free_shifts(system)) else 0
    return (each + relaxing) * len(chosen_cells(len(free_shapes(system)), keys.strains, keys.distortions))


def _expand(system: System, section: SystemSection, folder: Path, means: Means) -> None:
    temperatures = expansion_temperatures(means.campaign)
    crystal = _crystal(system, section, means)
    cells = {T: crystal.cell(T) for T in temperatures}  # all of them before any file, so that a refusal leaves none
    every = sorted({*np.arange(0.0, max(temperatures) + _TABLE_STEP, _TABLE_STEP).tolist(), *temperatures})
    write_expansion(crystal, every, folder / "quasi-harmonic.csv")
    plot_expansion({section.name: crystal}, temperatures, folder / "quasi-harmonic.png")
    for temperature, cell in cells.items():
        means.progress.say(f"{section.name} at {temperature:g} K: {_told(crystal, temperature)}")
        shift = None if cell.shift is None else cell.shift[system.primitive_atoms]
        copy = deformed(system, np.eye(3) + cell.strain, shift)
        write_phonopy(dataclasses.replace(copy, force_constants=cell.force_constants), cell_path(folder, temperature))


def _told(crystal: ExpandingCrystal, temperature: float) -> str:
    """Return how far the crystal is expanded at a temperature, and how fast it expands."""
    (found,) = crystal.course([temperature])
    if not len(crystal.basis):
        slope = expansion_coefficient(crystal, temperature)
        return f"all lengths {crystal.strain(found):+.2%}, expansion {slope:.2g} per K"
    own = crystal.system.unit_cell.cell
    lengths = np.linalg.norm(own @ crystal.deformation(found), axis=1) / np.linalg.norm(own, axis=1) - 1
    axes = zip("abc", lengths, axis_coefficients(crystal, temperature), strict=True)
    return "; ".join(f"{name} {change:+.2%}, expansion {slope:.2g} per K" for name, change, slope in axes)


def _crystal(system: System, section: SystemSection, means: Means) -> ExpandingCrystal:
    """Return the crystal in all cells, read or labelled."""
    keys, basis = section.quasi_harmonic, free_shapes(system)
    kept = keys.shape == "kept"
    if not kept and empty_directions(system.unit_cell).any():
        raise InputError(
            f"quasi_harmonic.shape must be kept for crystals with vacuum but got free for {section.name!r}: an empty "
            "direction has no length of its own; remove the key, or give expansion as a number (1/K)"
        )
    if kept and len(basis):
        means.progress.say(
            f"{section.name}: all lengths expand alike (quasi_harmonic.shape: kept), though the axes of this crystal "
            "may differ; shape: free finds how"
        )
    members: Sequence[tuple[System, float]]
    if keys.files is not None:
        repeats = len(system.supercell.numbers) / len(system.unit_cell.numbers)
        copies = [
            read_stretched(system, one.force_constants) if kept else read_deformed(system, one.force_constants, basis)
            for one in keys.files
        ]
        members = [(copy, one.energy * repeats) for copy, one in zip(copies, keys.files, strict=True)]
    elif kept:
        members = [
            _labelled(stretched(system, strain), f"all lengths {strain:+.1%}", section, means)
            for strain in keys.strains
        ]
    else:
        cells = chosen_cells(len(basis), keys.strains, keys.distortions)
        copies = _relaxed(system, [cell_deformation(basis, strain, shape) for strain, shape in cells], section, means)
        members = [
            _labelled(copy, f"cell {number} of {len(copies)}", section, means) for number, copy in enumerate(copies, 1)
        ]
    return expanding_crystal(system, members, keys.statistics, None if kept else basis)


def _relaxed(system: System, deformations: Sequence[FloatArray], section: SystemSection, means: Means) -> list[System]:
    """Return copies with deformed cells [3, 3] in which the atoms are at rest.

    Raises:
        InputError: they do not come to rest.
    """
    free = free_shifts(system)  # [D, p, 3]
    shifts = np.zeros((len(deformations), len(system.primitive_atoms), 3))
    if len(free):
        labeler, atoms = section.quasi_harmonic.label or means.campaign.label, primitive_lattice(system).atoms
        starting = np.einsum(
            "dax,abxy,eby->de", free, required_force_constants(system)[:, atoms].sum(axis=2), free
        )  # [D, D] eV/Å²
        descents = [_Descent(starting.copy()) for _ in deformations]
        moving = list(range(len(deformations)))
        for _ in range(_MOST_STEPS):
            batch = [deformed(system, deformations[i], shifts[i]).supercell for i in moving]
            title = f"{section.name}: relaxing atoms in strained cells"
            labels = label_all(batch, f"{section.name} in strained cells", labeler, title, means)
            steps = [
                descents[i].step(np.einsum("dax,ax->d", free, label.forces[atoms].mean(axis=1)))
                for i, label in zip(moving, labels, strict=True)
            ]
            left = [i for i, step in zip(moving, steps, strict=True) if np.abs(step).max() > _AT_REST]
            for i, step in zip(moving, steps, strict=True):
                shifts[i] += np.einsum("d,dax->ax", step, free) if i in left else 0.0
            moving = left
            if not moving:
                break
        else:
            raise InputError(
                f"atoms of {section.name!r} must come to rest in all strained cells but got {len(moving)} of "
                f"{len(deformations)} still moving after {_MOST_STEPS} steps; take smaller strains and distortions, or "
                "`shape: kept`"
            )
    return [deformed(system, *one) for one in zip(deformations, shifts, strict=True)]


class _Descent:
    """Quasi-Newton steps in free displacements: stiffness corrected by what each step did (symmetric rank one)."""

    def __init__(self, stiffness: FloatArray) -> None:
        self._stiffness = stiffness  # [D, D] eV/Å²
        self._last: tuple[FloatArray, FloatArray] | None = None

    def step(self, forces: FloatArray) -> FloatArray:
        """Return the next step [D] in Å from forces [D] in eV/Å."""
        if self._last is not None:
            step, before = self._last
            missed = before - forces - self._stiffness @ step
            along = float(missed @ step)
            if abs(along) > 1e-6 * np.linalg.norm(missed) * np.linalg.norm(step):
                self._stiffness = self._stiffness + np.outer(missed, missed) / along
        values, vectors = np.linalg.eigh(self._stiffness)
        step = vectors @ ((vectors.T @ forces) / np.maximum(np.abs(values), _SOFTEST))
        step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        self._last = step, forces
        return np.asarray(step)


def _labelled(copy: System, place: str, section: SystemSection, means: Means) -> tuple[System, float]:
    """Return a deformed copy with its force constants, and its energy in eV."""
    title = f"{section.name}: force constants with {place}"
    labeler = section.quasi_harmonic.label or means.campaign.label
    labels = label_displacements(copy, section.displacement, labeler, title, means)
    forces = np.array([label.forces for label in labels])
    return with_force_constants(copy, forces, section.displacement), labels[0].energy
