"""Labelled draws of renormalised phonons that models train on: listed beside the force constants they gave.

Only those at the campaign's labeler and cell get here. They were drawn for their system and by no arm, so all arms
train on them alike and none has them in its budget (``ARCHITECTURE.md``, "What makes a comparison fair").
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from activeph.config import Campaign
from activeph.errors import InputError
from activeph.records import Configuration, FloatArray
from activeph.rundir import RunDirectory, write_arrays
from activeph.state import Pick


def labels_path(folder: Path) -> Path:
    """Return the file of the labelled draws of the system that ``folder`` belongs to."""
    return folder / "renormalisation-labels.npz"


def write_drawn(folder: Path, drawn: Sequence[Configuration], temperatures: FloatArray, keys: Sequence[str]) -> None:
    """Write the labelled draws of one system with temperature (K) and ledger key of each."""
    write_arrays(
        labels_path(folder),
        numbers=np.array([one.numbers for one in drawn]),
        positions=np.array([one.positions for one in drawn]),
        cells=np.array([one.cell for one in drawn]),
        temperatures=temperatures,
        keys=np.array(keys),
    )


def prepared_picks(campaign: Campaign, directory: RunDirectory) -> list[Pick]:
    """Return what the journal keeps of the draws to train on, each calculation once."""
    picks: dict[str, Pick] = {}
    for section in campaign.systems:
        if section.renormalise.train:
            with _opened(directory, section.name) as file:
                named = list(zip(file["keys"].tolist(), file["temperatures"].tolist(), strict=True))
            for index, (key, temperature) in enumerate(named):
                name = f"renormalise-{temperature:g}K-{index}"
                picks.setdefault(key, Pick(name, section.name, index, temperature, key, None))
    return list(picks.values())


def prepared_configurations(directory: RunDirectory, picks: Sequence[Pick]) -> dict[str, Configuration]:
    """Return the configurations of some of :func:`prepared_picks` by ledger key."""
    found: dict[str, Configuration] = {}
    for name in sorted({pick.system for pick in picks}):
        with _opened(directory, name) as file:
            numbers, positions, cells = (file[key] for key in ("numbers", "positions", "cells"))
        rows = [(pick.key, pick.index) for pick in picks if pick.system == name]
        found |= {key: Configuration(numbers[row], positions[row], cells[row]) for key, row in rows}
    return found


@contextmanager
def _opened(directory: RunDirectory, system: str) -> Iterator[Mapping[str, Any]]:
    """Open the labelled draws of a system. Raises InputError where the file is damaged."""
    path = labels_path(directory.system(system).parent)
    try:
        with np.load(path) as file:
            yield file
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} must be what this run has written but got damage ({error}); remove it: the next run makes it "
            "again from its labels"
        ) from error
