"""What the labels of a campaign will cost, from one or two calculations made before anything is spent."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activeph.config import Campaign
from activeph.config.budget import cores_per_label
from activeph.labelling import obtain
from activeph.quasi_harmonic import expansion_temperatures, expected_labels
from activeph.records import Configuration, Failure, Label, System
from activeph.renormalisation import wanted_temperatures
from activeph.store.ledger import Ledger
from activeph.systems import finite_displacements

PATIENCE = 300.0  # s: a supercell expected to take longer is not tried but extrapolated from the unit cell
LOADING = 5.0  # s: a quicker calculation is repeated, as loading the code may have been most of it
EXPONENTS = (1.0, 3.0)  # of the time with the number of atoms, between which codes lie


@dataclass(frozen=True)
class Trial:
    """One calculation made to see whether the labeler works and how long it takes."""

    what: str
    n_atoms: int
    outcome: Label | Failure
    size: int  # bytes on disk
    seconds: float  # as a campaign's account counts them


@dataclass(frozen=True)
class Forecast:
    """Numbers of calculations by what they are for, and the time of one in s: lowest and highest expectation."""

    labels: Mapping[str, int]
    seconds: tuple[float, float]
    size: int  # bytes on disk of one label
    workers: int
    cores: int  # per calculation

    @property
    def total(self) -> int:
        """All of them; arms that choose the same configuration share it, so there may be fewer."""
        return sum(self.labels.values())

    def wall_time(self, labels: int) -> tuple[float, float]:
        """Return the time in s that labels take on all workers."""
        waves = -(-labels // self.workers)
        return waves * self.seconds[0], waves * self.seconds[1]

    def core_hours(self, labels: int) -> tuple[float, float]:
        """Return the core-hours that labels take."""
        return tuple(labels * self.cores * seconds / 3600 for seconds in self.seconds)  # type: ignore[return-value]


def count_labels(campaign: Campaign, systems: Sequence[System]) -> dict[str, int]:
    """Return the largest number of calculations by what they are for."""
    counts = {f"arm {name}": campaign.budget.repeats * campaign.budget.labels for name in campaign.arms}
    counts["test set"] = campaign.test.n
    temperatures, warm = wanted_temperatures(campaign), expansion_temperatures(campaign)
    for section, system in zip(campaign.systems, systems, strict=True):
        if section.force_constants == "from-labeler":
            counts[f"force constants of {section.name}"] = len(finite_displacements(system, section.displacement))
        if warm and section.quasi_harmonic.label is None and section.quasi_harmonic.files is None:
            counts[f"quasi-harmonic cells of {section.name}"] = expected_labels(system, section)
        if temperatures and section.renormalise.label is None:
            rounds = section.renormalise.max_rounds * section.renormalise.draws
            counts[f"renormalisation of {section.name}"] = len(temperatures) * rounds
    return counts


def count_low_fidelity(campaign: Campaign) -> dict[str, int]:
    """Return the largest number of calculations of the cheap code: one beside all that models see; {} without one."""
    if campaign.low_fidelity is None:
        return {}
    trained = [section.renormalise for section in campaign.systems if section.renormalise.train]
    prepared = len(wanted_temperatures(campaign)) * sum(one.max_rounds * one.draws for one in trained)
    spent = len(campaign.arms) * campaign.budget.repeats * campaign.budget.labels
    return {"low fidelity": spent + campaign.test.n + prepared}


def try_labeler(campaign: Campaign, system: System) -> list[Trial]:
    """Label the unit cell and, where that promises to be quick, a displaced supercell, as the campaign would."""
    unit_cell, supercell = system.unit_cell, finite_displacements(system)[1]
    with tempfile.TemporaryDirectory(prefix="activeph-check-") as folder, campaign.execute.start() as workers:

        def attempt(what: str, cell: Configuration) -> Trial:
            for name in ("cold", "warm"):  # the first calculation of a worker also loads the code
                ledger = Ledger(Path(folder) / name)
                ((key, outcome),) = obtain(campaign.label, [cell], ledger, workers).items()
                seconds = sum(attempt["seconds"] for attempt in ledger.attempts())
                trial = Trial(what, len(cell.numbers), outcome, size_on_disk(ledger.directory(key)), seconds)
                if trial.seconds > LOADING:
                    break
            return trial

        if len(unit_cell.numbers) == len(supercell.numbers):
            return [attempt("supercell", supercell)]
        first = attempt("unit cell", unit_cell)
        gave_up = isinstance(first.outcome, Failure) and first.outcome.kind != "unconverged"
        expected = math.sqrt(math.prod(_extrapolated(first, len(supercell.numbers))))
        if gave_up or expected > PATIENCE:
            return [first]
        second = attempt("supercell", supercell)
        # one cell may fail where the other does not: codes at the Gamma point alone need large cells
        return [second] if isinstance(first.outcome, Failure) else [first, second]


def forecast(campaign: Campaign, systems: Sequence[System], trial: Trial, counts: Mapping[str, int]) -> Forecast:
    """Return what calculations will cost if each takes what the trial took, scaled to the supercell.

    Those of a cheap code occupy as many cores as labels do: an executor's places are of one size.
    """
    n_atoms = max(len(system.supercell.numbers) for system in systems)
    seconds = _extrapolated(trial, n_atoms)
    size = trial.size * n_atoms // trial.n_atoms
    cores = cores_per_label(campaign.execute, campaign.label)
    return Forecast(counts, seconds, size, _workers(campaign.execute), cores)


def size_on_disk(folder: Path) -> int:
    """Return the bytes that a folder takes, blocks that are filled in part included."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*")))


def _extrapolated(trial: Trial, n_atoms: int) -> tuple[float, float]:
    ratio = n_atoms / trial.n_atoms
    return trial.seconds * ratio ** EXPONENTS[0], trial.seconds * ratio ** EXPONENTS[1]


def _workers(executor: Any) -> int:
    """Return how many labels are computed at once."""
    if executor.kind == "serial":
        return 1
    if hasattr(executor, "blocks"):
        return int(executor.workers_per_node * executor.blocks * executor.nodes)
    return int(getattr(executor, "n_workers", None) or len(os.sched_getaffinity(0)))
