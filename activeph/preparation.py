"""Crystals made ready before the first round: force constants labelled or read, cells expanded, modes renormalised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from activeph.config import SystemSection
from activeph.errors import InputError
from activeph.labelled_displacements import label_displacements
from activeph.means import Means
from activeph.quasi_harmonic import expanded_system
from activeph.records import System
from activeph.renormalisation import renormalised_system
from activeph.sample.base import Sampler, brought, systems_of
from activeph.systems import with_force_constants, write_phonopy

_MANY_DEFECTS = 12  # of one crystal, more than which a user hears of


def prepare_systems(means: Means) -> Mapping[str, System]:
    """Return the campaign's systems, and those that samplers make of them.

    Force constants that the labeler must give are labelled first.
    """
    guests = _guests(means)
    own = {section.name: replace(_prepare(section, means), guests=guests) for section in means.campaign.systems}
    return own | _derived(own, means)


def _guests(means: Means) -> tuple[int, ...]:
    """Return the atomic numbers that samplers put in the place of the crystals' own; words that are none are theirs."""
    from ase.data import atomic_numbers

    symbols = {symbol for sampler in _samplers(means) for symbol in brought(sampler)}
    return tuple(sorted(atomic_numbers[symbol] for symbol in symbols if symbol in atomic_numbers))


def _samplers(means: Means) -> list[Sampler]:
    """Return the samplers of all arms and of the test set."""
    return [*(arm.sample for arm in means.campaign.arms.values()), means.campaign.test.sample]


def _derived(own: Mapping[str, System], means: Means) -> dict[str, System]:
    """Return the systems that samplers make of the campaign's own, such as defects; each is written like its host.

    Raises:
        InputError: one has the name of another system, or atoms that the labeler does not know.
    """
    made = (system for sampler in _samplers(means) for host in own.values() for system in systems_of(sampler, host))
    found = {system.name: system for system in made if system.host}
    for host, n_defects in Counter(system.host for system in found.values()).items():
        if n_defects > _MANY_DEFECTS:
            means.progress.say(
                f"{host}: {n_defects} different defects share each pool of candidates; fewer elements, or a larger "
                "`void` for interstitials, make them fewer"
            )
    check = getattr(means.campaign.label, "check", None)
    for name, system in found.items():
        if name in own:
            raise InputError(f"systems must have different names but got {name!r} twice; give the crystal another name")
        if check is not None:
            check(system.supercell)
        path = means.directory.system(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_phonopy(system, path)
    return found


def _prepare(section: SystemSection, means: Means) -> System:
    """Return one system, its force constants read back from the run directory so that every start uses equal digits."""
    path = means.directory.system(section.name)
    if not path.exists():
        given = section.force_constants if isinstance(section.force_constants, Path) else None
        system = section.system(given)
        if given is None:
            title, labeler = f"{section.name}: force constants", means.campaign.label
            labels = label_displacements(system, section.displacement, labeler, title, means)
            forces = np.array([label.forces for label in labels])
            system = with_force_constants(system, forces, section.displacement)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_phonopy(system, path)
    try:
        system = section.system(path)
    except InputError as error:
        raise InputError(
            f"{path} must hold the force constants that this run has written but got damage ({error}); "
            "restore it from a copy, or remove it: the next run makes it again from its labels or files"
        ) from error
    system = expanded_system(system, section, path.parent, means)
    return renormalised_system(system, section, path.parent, means)
