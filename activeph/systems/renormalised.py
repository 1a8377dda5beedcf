"""Renormalised force constants from a labeler: rounds of labels at each temperature, their record and their picture."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from activeph.errors import InputError
from activeph.phonons.renormalise import Renormalisation, Round, Settings
from activeph.records import Configuration, FloatArray, Label, System
from activeph.systems.displacements import require_forces

Labelling = Callable[[Sequence[Configuration]], Sequence[Label | None]]
"""Labels a batch, in its order; None where a calculation failed."""

COLUMNS = ("round", "labels", "effective labels", "lowest frequency (THz)", "frequency change (THz)",
           "frequency error (THz)", "free energy (eV/atom)", "free energy error (eV/atom)",
           "refitted lowest frequency (THz)", "share of forces explained")  # fmt: skip


def renormalised(
    system: System,
    temperatures: Sequence[float],
    label: Labelling,
    settings: Settings | None = None,
    seed: int = 0,
    watch: Callable[[float, Round], None] | None = None,
) -> tuple[System, dict[float, tuple[Round, ...]]]:
    """Return the system with force constants renormalised at each temperature (K), and the rounds it took.

    Each temperature starts from the result of the one before. ``label`` is asked for the same configurations in the
    same order whenever this is called with the same arguments, so a ledger behind it makes the run resumable.

    Raises:
        InputError: all labels of a first round failed, or a temperature did not converge or kept imaginary modes.
    """
    rounds: dict[float, tuple[Round, ...]] = {}
    found: dict[float, FloatArray] = {}
    start = system
    for temperature in temperatures:
        state = Renormalisation(start, temperature, settings, seed)
        for _ in range(state.settings.max_rounds):
            result = state.update(*_answers(system, state.propose(), label))
            if watch is not None:
                watch(temperature, result)
            if state.converged:
                break
        if not state.converged:
            raise InputError(_failure(system, temperature, state))
        rounds[temperature] = tuple(state.rounds)
        start = state.effective
        assert start.force_constants is not None
        found[temperature] = start.force_constants
    return dataclasses.replace(system, effective_force_constants=found), rounds


def write_rounds(rounds: Mapping[float, Sequence[Round]], path: Path) -> None:
    """Write one line of a table per temperature and round. Atomic."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["temperature (K)", *COLUMNS])
        for temperature, course in rounds.items():
            writer.writerows([temperature, *_row(result)] for result in course)
    os.replace(beside, path)


def plot_rounds(rounds: Mapping[float, Sequence[Round]], path: Path) -> None:
    """Draw lowest frequency and free energy against labels, with their errors, one line per temperature."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for temperature, course in rounds.items():
        labels = [result.n_labels for result in course]
        errors = [result.frequency_errors[0] for result in course]
        name = f"{temperature:g} K"
        left.errorbar(labels, [result.frequencies[0] for result in course], errors, marker="o", capsize=2, label=name)
        energies = 1000 * (np.array([result.free_energy for result in course]) - course[-1].free_energy)
        errors = [1000 * result.free_energy_error for result in course]
        right.errorbar(labels, energies, errors, marker="o", capsize=2)
    for axes in (left, right):
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xlabel("labels")
    left.set_ylabel("lowest frequency (THz)")
    right.set_ylabel("free energy less its last value (meV/atom)")
    left.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=200)


def _answers(system: System, u: FloatArray, label: Labelling) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return displacements, forces and energies of the labels that did not fail."""
    cell = system.supercell
    labels = label([dataclasses.replace(cell, positions=cell.positions + row) for row in u])
    rows = [row for row, answer in enumerate(labels) if answer is not None]
    good = [answer for answer in labels if answer is not None]
    forces = np.array([answer.forces for answer in good]).reshape(-1, *cell.positions.shape)
    require_forces(system, forces)
    return u[rows], forces, np.array([answer.energy for answer in good], dtype=np.float64)


def _row(result: Round) -> tuple[float, ...]:
    return (
        result.number,
        result.n_labels,
        round(result.effective_labels, 2),
        float(result.frequencies[0]),
        result.frequency_change,
        float(np.sqrt(np.mean(result.frequency_errors**2))),
        result.free_energy,
        result.free_energy_error,
        float(result.refitted[0]),
        round(result.explained, 4),
    )


def _failure(system: System, temperature: float, state: Renormalisation) -> str:
    last = state.rounds[-1]
    error = float(np.sqrt(np.mean(last.frequency_errors**2)))
    return (
        f"renormalisation of {system.name!r} at {temperature:g} K must converge but got, after {last.n_labels} labels, "
        f"a lowest frequency of {last.frequencies[0]:.2f} THz, a frequency error of {error:.3f} THz and a free energy "
        f"error of {1000 * last.free_energy_error:.2f} meV/atom; allow more rounds or draws, or looser tolerances"
    )
