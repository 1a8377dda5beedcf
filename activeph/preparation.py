"""Crystals made ready before the first round: force constants labelled or read, and renormalised where asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from activeph.config import SystemSection
from activeph.errors import Paused
from activeph.identity import aligned
from activeph.labelling import obtain
from activeph.means import Means
from activeph.records import Failure, FloatArray, System
from activeph.renormalisation import renormalised_system
from activeph.store.ledger import label_key
from activeph.systems import finite_displacements, load_system, with_force_constants, write_phonopy


def prepare_systems(means: Means) -> Mapping[str, System]:
    """Return the campaign's systems; force constants that the labeler must give are labelled first."""
    return {section.name: _prepare(section, means) for section in means.campaign.systems}


def _prepare(section: SystemSection, means: Means) -> System:
    """Return one system, its force constants read back from the run directory so that every start uses equal digits."""
    path = means.directory.system(section.name)
    if not path.exists():
        given = section.force_constants if isinstance(section.force_constants, Path) else None
        system = load_system(section.name, section.structure, section.supercell, given)
        if given is None:
            system = with_force_constants(system, _label_displacements(system, section, means), section.displacement)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_phonopy(system, path)
    system = load_system(section.name, section.structure, section.supercell, path)
    return renormalised_system(system, section, path.parent, means)


def _label_displacements(system: System, section: SystemSection, means: Means) -> FloatArray:
    """Return the forces [n, N, 3] in eV/Å of the finite displacements. Raises Paused where one of them has no label."""
    labeler = means.campaign.label
    configurations = finite_displacements(system, section.displacement)
    with means.progress.stage(f"{section.name}: force constants", len(configurations)) as stage:
        found = obtain(labeler, configurations, means.ledger, means.workers, lambda _: stage.advance())
    forces = []
    for configuration in configurations:
        key = label_key(configuration, labeler.fingerprint)
        outcome = found[key]
        if isinstance(outcome, Failure):
            raise Paused(
                f"finite displacements of {section.name} must all converge but got {outcome.kind}: {outcome.message}; "
                f"see {means.ledger.directory(key)}, or give force_constants as a file."
            )
        forces.append(aligned(outcome, configuration).forces)
    return np.array(forces)
