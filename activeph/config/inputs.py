"""Checks of a campaign that read its structure files: cheap, and done before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from activeph.config.load import locate
from activeph.config.schema import Campaign
from activeph.errors import InputError
from activeph.records import Configuration
from activeph.sample.base import brought
from activeph.systems.load import read_structure

CLOSEST = 0.5  # Å: nothing bonds shorter (H2 has 0.74), so two atoms this close are one written twice


def check_inputs(campaign: Campaign) -> None:
    """Raise InputError where a structure cannot be used, labeler or model do not know its elements, or no labels can be
    put into the folder of the ledger.
    """
    _refuse_ledger(campaign)
    for index, section in enumerate(campaign.systems):
        unit_cell = read_unit_cell(campaign, index)
        n_atoms = len(unit_cell.numbers) * round(float(np.linalg.det(section.supercell)))
        if n_atoms < 2:
            raise InputError(
                f"{_where(campaign, 'systems', index, 'supercell')} must make a cell of at least 2 atoms but got 1; "
                "use more repetitions such as [2, 2, 2]"
            )
        for key, verb in (("label", "label"), ("low_fidelity", "label"), ("model", "learn")):
            check = getattr(getattr(campaign, key), "check", None)
            if check is None:
                continue
            for name, configuration in _versions(campaign, section.name, unit_cell):
                _checked(check, configuration, f"{_where(campaign, key)} cannot {verb} {name}")


def _refuse_ledger(campaign: Campaign) -> None:
    """Raise InputError where the ledger is no folder, and none that can be made."""
    shared = campaign.ledger
    if shared is None:
        return
    nearest = next(path for path in (shared, *shared.parents) if os.path.lexists(path))
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    what = f"{shared}, which cannot be written" if nearest.is_dir() else f"the file {nearest}"
    raise InputError(f"{_where(campaign, 'ledger')} must be a folder of labels but got {what}; choose another place")


def _versions(campaign: Campaign, name: str, unit_cell: Configuration) -> Iterator[tuple[str, Configuration]]:
    """Yield a crystal as it is, and with each of the elements that samplers bring, named in words."""
    from ase.data import atomic_numbers

    yield name, unit_cell
    samplers = [*(arm.sample for arm in campaign.arms.values()), campaign.test.sample]
    for symbol in sorted({symbol for sampler in samplers for symbol in brought(sampler)}):
        numbers = unit_cell.numbers.copy()
        numbers[-1] = atomic_numbers.get(symbol, numbers[-1])  # what is no element the sampler refuses
        yield f"{name} with {symbol}", replace(unit_cell, numbers=numbers)


def read_unit_cell(campaign: Campaign, index: int) -> Configuration:
    """Return the unit cell of system ``index`` of the campaign. Raises InputError where the file holds no crystal."""
    place = _where(campaign, "systems", index, "structure")
    try:
        unit_cell = read_structure(campaign.systems[index].structure)
    except InputError as error:
        raise InputError(f"{place} {str(error).removeprefix('structure ')}") from None
    closest = _closest(unit_cell)
    if closest < CLOSEST:
        raise InputError(
            f"{place} must have atoms at least {CLOSEST} Å apart but got {closest:.3g} Å; remove repeated atoms"
        )
    return unit_cell


def _checked(check: Callable[[Configuration], None], unit_cell: Configuration, place: str) -> None:
    try:
        check(unit_cell)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _closest(configuration: Configuration) -> float:
    """Return the shortest distance in Å between atoms, infinity where none is below :data:`CLOSEST`."""
    from ase.neighborlist import primitive_neighbor_list

    periodic = (True, True, True)
    distances = primitive_neighbor_list("d", periodic, configuration.cell, configuration.positions, CLOSEST)
    return float(np.min(distances, initial=np.inf))


def _where(campaign: Campaign, *key: str | int) -> str:
    """Return place and key as sentences begin with them."""
    words = "".join(f"[{word}]" if isinstance(word, int) else f".{word}" for word in key).removeprefix(".")
    return f"{locate(campaign.source, *key)}: {words}" if campaign.source else words
