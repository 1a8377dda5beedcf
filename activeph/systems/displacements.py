"""Force constants from the labeler: which cells to label, and what their forces say."""

from __future__ import annotations

import dataclasses

import numpy as np

from activeph.errors import InputError
from activeph.records import Configuration, FloatArray, System


def finite_displacements(system: System, distance: float = 0.02) -> list[Configuration]:
    """Return the cells to label: first the undisplaced supercell, then phonopy's symmetry-distinct displacements.

    ``distance`` is in Å. The first cell's forces are subtracted from the others (:func:`with_force_constants`), so
    that a structure which is not quite relaxed for the labeler gives the curvature at the given positions.

    Raises:
        InputError: ``distance`` is not positive or above 0.3 Å.
    """
    displaced = _displaced(system, distance)
    return [
        system.supercell,
        *(dataclasses.replace(system.supercell, positions=system.supercell.positions + u) for u in displaced),
    ]


def with_force_constants(system: System, forces: FloatArray, distance: float = 0.02) -> System:
    """Return the system with the force constants that ``forces`` [n, N, 3] eV/Å of :func:`finite_displacements` give.

    Least squares in the space of force constants that obey the space group, index permutation and the acoustic sum
    rule (symfc: A. Seko, A. Togo, Phys. Rev. B 110, 214302 (2024)).

    Raises:
        InputError: not one set of finite forces per displaced cell.
    """
    displaced = _displaced(system, distance)
    shape = (len(displaced) + 1, *system.supercell.positions.shape)
    forces = np.asarray(forces, dtype=np.float64)
    if forces.shape != shape:
        raise InputError(
            f"forces for system {system.name!r} must be of shape {shape} but got {forces.shape}; "
            "label every cell of finite_displacements, in its order"
        )
    require_forces(system, forces)
    return fitted(system, displaced, forces[1:] - forces[0])


def require_forces(system: System, forces: FloatArray) -> None:
    """Raise InputError where forces are no numbers, as those of labelers that give none."""
    if not np.isfinite(forces).all():
        raise InputError(
            f"force constants of {system.name!r} must be made of finite forces but got labels without; take a labeler "
            "that gives forces, or give force_constants as a file"
        )


def fitted(system: System, displacements: FloatArray, forces: FloatArray) -> System:
    """Return the system with symmetric force constants fitted to displacements and forces, both [S, N, 3]."""
    from activeph.phonons.fit import ForceConstantFit

    basis = ForceConstantFit(system)
    return dataclasses.replace(system, force_constants=basis.solve(displacements, forces))


def _displaced(system: System, distance: float) -> FloatArray:
    """Return phonopy's displacements [n, N, 3] in Å."""
    from activeph.systems.load import phonopy_of

    if not 0 < distance <= 0.3:
        raise InputError(f"distance must be above 0 and at most 0.3 Å but got {distance}; 0.01 to 0.03 is usual")
    phonon = phonopy_of(dataclasses.replace(system, force_constants=None))
    phonon.generate_displacements(distance=distance)
    result = np.zeros((len(phonon.displacements), len(system.supercell.numbers), 3))
    for row, (atom, *vector) in zip(result, phonon.displacements, strict=True):
        row[atom] = vector
    return result
