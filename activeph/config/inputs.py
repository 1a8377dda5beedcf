"""Checks of a campaign that read its structure files: cheap, and done before anything is written."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from activeph.config.load import locate
from activeph.config.schema import Campaign, SystemSection
from activeph.errors import InputError
from activeph.records import Configuration

if TYPE_CHECKING:
    from ase import Atoms

CLOSEST = 0.5  # Å: nothing bonds shorter (H2 has 0.74), so two atoms this close are one written twice


def check_inputs(campaign: Campaign) -> None:
    """Raise InputError where a structure cannot be used or the labeler does not know its elements."""
    for index, section in enumerate(campaign.systems):
        atoms = read_unit_cell(campaign, index)
        n_atoms = len(atoms) * round(float(np.linalg.det(section.supercell)))
        if n_atoms < 2:
            raise InputError(
                f"{_where(campaign, 'systems', index, 'supercell')} must make a cell of at least 2 atoms but got 1; "
                "use more repetitions such as [2, 2, 2]"
            )
        check = getattr(campaign.label, "check", None)
        if check is not None:
            configuration = Configuration(np.asarray(atoms.numbers), np.array(atoms.positions), np.array(atoms.cell))
            try:
                check(configuration)
            except InputError as error:
                raise InputError(f"{_where(campaign, 'label')} cannot label {section.name}: {error}") from None


def read_unit_cell(campaign: Campaign, index: int) -> Atoms:
    """Return the unit cell of system ``index`` of the campaign. Raises InputError where the file holds no crystal."""
    section = campaign.systems[index]
    place = _where(campaign, "systems", index, "structure")
    atoms = _read(section, place)
    _refuse_molecules(atoms, section, place)
    _refuse_disorder(atoms, section, place)
    _refuse_overlaps(atoms, section, place)
    return atoms


def _read(section: SystemSection, place: str) -> Any:
    import ase.io

    path = section.structure
    if path.is_dir():
        raise InputError(f"{place} must be a file but got the folder {path}; name the file in it")
    if path.stat().st_size == 0:
        raise InputError(f"{place} must hold a structure but got an empty file {path}; write it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = ase.io.read(path, index=-1)
    except Exception as error:  # every reader of ASE has its own errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{place} must be a file that ASE reads but got {path} ({reason[:120]}); try CIF, POSCAR or extended XYZ"
        ) from None
    if not len(atoms):
        raise InputError(f"{place} must hold atoms but got none in {path}; check the file")
    return atoms


def _refuse_molecules(atoms: Any, section: SystemSection, place: str) -> None:
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if not (np.isfinite(volume) and np.isfinite(atoms.positions).all()):
        raise InputError(f"{place} must hold finite numbers but got nan or inf in {section.structure}; check the file")
    if volume < 1.0:
        raise InputError(
            f"{place} must have a cell with three lattice vectors but got a volume of {volume:.3g} Å³; "
            "put a molecule or slab into a box with vacuum"
        )


def _refuse_disorder(atoms: Any, section: SystemSection, place: str) -> None:
    occupancies = atoms.info.get("occupancy") or {}
    partial = [share for site in occupancies.values() for share in site.values() if share < 0.999]
    if partial:
        raise InputError(
            f"{place} must have fully occupied sites but got an occupancy of {min(partial):g} in {section.structure}; "
            "choose one ordered arrangement of the atoms"
        )


def _refuse_overlaps(atoms: Any, section: SystemSection, place: str) -> None:
    from ase.neighborlist import neighbor_list

    distances = neighbor_list("d", atoms, CLOSEST)
    if len(distances):
        raise InputError(
            f"{place} must have atoms at least {CLOSEST} Å apart but got {distances.min():.3g} Å in "
            f"{section.structure}; remove repeated atoms"
        )


def _where(campaign: Campaign, *key: str | int) -> str:
    """Return place and key as sentences begin with them."""
    words = "".join(f"[{word}]" if isinstance(word, int) else f".{word}" for word in key).removeprefix(".")
    return f"{locate(campaign.source, *key)}: {words}" if campaign.source else words
