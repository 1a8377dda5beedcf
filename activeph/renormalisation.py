"""Renormalised force constants of a campaign: where a sampler asks for them, labelled through the ledger, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activeph.config import Campaign, SystemSection
from activeph.identity import aligned, label_key
from activeph.labelling import obtain
from activeph.loop import counting
from activeph.means import Means
from activeph.phonons.renormalise import Round, Settings
from activeph.prepared import labels_path, write_drawn
from activeph.records import Configuration, Label, System
from activeph.seeds import derive_seed
from activeph.systems import write_phonopy


def renormalised_system(system: System, section: SystemSection, folder: Path, means: Means) -> System:
    """Return the system with force constants at every temperature at which a sampler renormalises.

    They are files of ``folder`` (``effective-300K.yaml``, readable by phonopy) and always read back from there, with
    the course of the rounds (``renormalisation.csv``, ``.png``) and the bands before and after (``bands.png``). Where
    the campaign trains on the labels, they are listed beside them (:mod:`activeph.prepared`).

    Raises:
        InputError: a temperature did not converge.
        Paused: the ledger cannot be written.
    """
    temperatures = wanted_temperatures(means.campaign)
    lacks_labels = section.renormalise.train and not labels_path(folder).exists()
    if lacks_labels or any(not effective_path(folder, T).exists() for T in temperatures):
        _renormalise(system, section, folder, means)
    return with_stored(system, section, folder)


def with_stored(system: System, section: SystemSection, folder: Path) -> System:
    """Return the system with all renormalised force constants that a folder holds."""
    found = {}
    for path in sorted(folder.glob("effective-*K.yaml")):
        temperature = float(path.stem.removeprefix("effective-").removesuffix("K"))
        constants = section.system(path).force_constants
        if constants is not None:
            found[temperature] = constants
    return dataclasses.replace(system, effective_force_constants=found)


def effective_path(folder: Path, temperature: float) -> Path:
    """Return the file of the force constants at a temperature."""
    return folder / f"effective-{temperature:g}K.yaml"


def wanted_temperatures(campaign: Campaign) -> list[float]:
    """Return the temperatures (K), rising, at which any sampler of the campaign renormalises."""
    return sampled_temperatures(campaign, "imaginary", "renormalise")


def sampled_temperatures(campaign: Campaign, key: str, value: str) -> list[float]:
    """Return the temperatures (K), rising, at which any sampler of the campaign has ``value`` under ``key``."""
    samplers = [*(arm.sample for arm in campaign.arms.values()), campaign.test.sample]
    return sorted({T for sampler in samplers for T in _wanted(sampler, key, value, ())})


def _wanted(sampler: Any, key: str, value: str, inherited: Sequence[float]) -> Iterator[float]:
    temperatures = getattr(sampler, "temperatures", None) or inherited
    if getattr(sampler, key, None) == value:
        yield from temperatures
    inner = [part.sample for part in getattr(sampler, "parts", ())]
    for one in [*inner, sampler.sample] if hasattr(sampler, "sample") else inner:
        yield from _wanted(one, key, value, temperatures)


def _renormalise(system: System, section: SystemSection, folder: Path, means: Means) -> None:
    from activeph.systems import effective_spectra, plot_rounds, plot_spectra, renormalised, write_rounds

    keys = section.renormalise
    labeler = keys.label or means.campaign.label
    settings = Settings(
        draws=keys.draws,
        max_rounds=keys.max_rounds,
        frequency_tolerance=keys.frequency_tolerance,
        energy_tolerance=keys.energy_tolerance,
        statistics=keys.statistics,
    )

    drawn: list[Configuration] = []  # and labelled, one temperature after the other

    def label(batch: Sequence[Configuration]) -> list[Label | None]:
        with means.progress.stage(f"{section.name}: renormalising", len(batch)) as stage:
            found = obtain(labeler, batch, means.ledger, means.workers, counting(means.campaign, labeler, stage))
        answers = [(found[label_key(one, labeler.fingerprint)], one) for one in batch]
        drawn.extend(one for answer, one in answers if isinstance(answer, Label))
        return [aligned(answer, one) if isinstance(answer, Label) else None for answer, one in answers]

    def watch(temperature: float, result: Round) -> None:
        lowest, error = result.frequencies[0], result.frequency_errors[0]
        means.progress.say(
            f"{section.name} at {temperature:g} K, {result.n_labels} labels: lowest mode {lowest:.2f} ± {error:.2f} "
            f"THz, free energy {result.free_energy:.4f} ± {result.free_energy_error:.4f} eV/atom"
        )

    seed = derive_seed("renormalise", section.name)
    found, rounds = renormalised(system, wanted_temperatures(means.campaign), label, settings, seed, watch)
    if keys.train:
        warmth = np.repeat(list(rounds), [course[-1].n_labels for course in rounds.values()])
        write_drawn(folder, drawn, warmth, [label_key(one, labeler.fingerprint) for one in drawn])
    write_rounds(rounds, folder / "renormalisation.csv")
    plot_rounds(rounds, folder / "renormalisation.png")
    plot_spectra(effective_spectra(found), folder / "bands.png")
    for temperature, constants in found.effective_force_constants.items():
        write_phonopy(dataclasses.replace(system, force_constants=constants), effective_path(folder, temperature))
