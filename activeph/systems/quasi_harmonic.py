"""Thermal expansion of a crystal from its phonons in several cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activeph.errors import InputError
from activeph.phonons.free_shape import ShapeSeries
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.quasi_harmonic import Equilibrium, VolumeSeries
from activeph.phonons.thermal import Statistics
from activeph.phonons.transfer import matched_sites
from activeph.records import FloatArray, System, ThermalCell
from activeph.systems.files import read_force_constants, read_phonopy
from activeph.systems.freedom import deformed

_SAME_SHAPE = 0.002  # relative; a cell that differs more from one that symmetry allows has another shape
_MOVED = 1e-6  # Å, beyond the rounding of files


@dataclass(frozen=True, eq=False)
class ExpandingCrystal:
    """A crystal in several cells: all lengths stretched by a factor, and where K > 0 its shape changed as well."""

    system: System
    basis: FloatArray  # [K, 3, 3] changes of shape that symmetry allows; K = 0 where the cell keeps its shape
    constants: FloatArray  # [V, n_prim, N, 3, 3] eV/Å²
    shifts: FloatArray  # [V, N, 3] Å from the strained sites
    series: VolumeSeries | ShapeSeries  # of the supercell

    @property
    def strains(self) -> FloatArray:
        """Relative changes of all lengths [V] that give the cells' volumes."""
        return np.asarray((self.series.volumes / self._own) ** (1 / 3) - 1)

    def cell(self, temperature: float) -> ThermalCell:
        """Return the cell of least free energy at a temperature (K), and the force constants in it.

        Raises:
            InputError: the cells do not enclose it, or too few have real vibrations.
        """
        found = self.series.equilibrium(temperature)
        if found is None:
            raise InputError(self._not_enclosed(temperature))
        stable, weights = self.series.stable, self.series.weights(found)
        constants = np.tensordot(weights, self.constants[stable], axes=1)
        shift = np.tensordot(weights, self.shifts[stable], axes=1)
        return ThermalCell(
            self.deformation(found) - np.eye(3), constants, shift if np.abs(shift).max() > _MOVED else None
        )

    def deformation(self, equilibrium: Equilibrium) -> FloatArray:
        """Return the matrix [3, 3] that multiplies cell and sites at an equilibrium."""
        if not equilibrium.shape:
            return np.asarray((1 + self.strain(equilibrium)) * np.eye(3))
        return cell_deformation(self.basis, self.strain(equilibrium), np.array(equilibrium.shape))

    def strain(self, equilibrium: Equilibrium) -> float:
        """Return the relative change of all lengths, the mean one where the shape changes, at an equilibrium."""
        return float((equilibrium.volume / self._own) ** (1 / 3) - 1)

    def course(self, temperatures: Sequence[float]) -> list[Equilibrium]:
        """Return the equilibria at those temperatures (K) where the strains enclose one."""
        found = (self.series.equilibrium(T) for T in temperatures)
        return [one for one in found if one is not None]

    @property
    def _own(self) -> float:
        return float(abs(np.linalg.det(self.system.supercell.cell)))

    def _not_enclosed(self, temperature: float) -> str:
        strains = self.strains[self.series.stable]
        dropped = len(self.strains) - len(strains)
        left_out = f" (in {dropped} more cells the crystal is unstable)" if dropped else ""
        wanted = self.series.escaping(temperature)
        return (
            f"quasi_harmonic of {self.system.name!r} must enclose the cell of least free energy at {temperature:g} K "
            f"but got strains from {strains.min():.2%} to {strains.max():.2%}{left_out} with the lowest free energy "
            f"towards {wanted}; add {wanted}, or relax the structure with this labeler"
        )


def expanding_crystal(
    system: System,
    members: Sequence[tuple[System, float]],
    statistics: Statistics = "quantum",
    basis: FloatArray | None = None,
) -> ExpandingCrystal:
    """Return the crystal that several strained copies of it describe.

    Args:
        system: the crystal as the campaign has it.
        members: :func:`stretched` or :func:`activeph.systems.freedom.deformed` copies with force constants, and the
            energy of each in eV per supercell.
        statistics: of the vibrations' free energy.
        basis: [K, 3, 3] changes of shape (:func:`activeph.systems.freedom.free_shapes`); None: the shape is kept.
    """
    basis = np.empty((0, 3, 3)) if basis is None else basis
    volumes = np.abs(np.linalg.det(np.array([member.supercell.cell for member, _ in members])))
    order = np.argsort(volumes, kind="stable")
    deformations = [np.linalg.inv(system.supercell.cell) @ member.supercell.cell for member, _ in members]
    known = (
        volumes[order],
        np.array([members[i][1] for i in order]),
        [harmonic_modes(members[i][0]).frequencies for i in order],
        statistics,
    )
    shapes = np.array([cell_shape(basis, deformation) for deformation in deformations])[order]
    return ExpandingCrystal(
        system,
        basis,
        np.array([members[i][0].force_constants for i in order]),
        np.array([_moved(system, members[i][0], deformations[i]) for i in order]),
        ShapeSeries(*known, shapes=shapes) if len(basis) else VolumeSeries(*known),
    )


def cell_deformation(basis: FloatArray, strain: float, shape: FloatArray) -> FloatArray:
    """Return the symmetric matrix [3, 3] (1 + strain) exp(Σ shape_k basis_k): shapes keep the volume."""
    values, vectors = np.linalg.eigh(np.einsum("k,kij->ij", shape, basis))
    return np.asarray((1 + strain) * (vectors * np.exp(values)) @ vectors.T)


def cell_shape(basis: FloatArray, deformation: FloatArray) -> FloatArray:
    """Return the shape [K] of a deformation [3, 3] of whatever volume."""
    values, vectors = np.linalg.eigh((deformation + deformation.T) / 2)
    return np.asarray(np.einsum("kij,ij->k", basis, (vectors * np.log(values)) @ vectors.T))


def stretched(system: System, strain: float) -> System:
    """Return the crystal with all lengths times 1 + strain, without force constants."""
    return deformed(system, (1 + strain) * np.eye(3))


def read_stretched(system: System, path: Path) -> System:
    """Return the stretched copy of a system that a phonopy file describes, with its force constants.

    Raises:
        InputError: another crystal, or one of another shape.
    """
    found = read_phonopy(system.name, path)
    ours, theirs = (crystal.primitive_matrix.T @ crystal.unit_cell.cell for crystal in (system, found))
    strain = float(abs(np.linalg.det(theirs) / np.linalg.det(ours)) ** (1 / 3) - 1)
    relation = theirs @ np.linalg.inv(ours) / (1 + strain)
    if np.abs(relation - np.rint(relation)).max() > _SAME_SHAPE:
        raise InputError(
            f"quasi_harmonic.files must hold the cell of {system.name!r} with all lengths stretched alike but got "
            f"another shape or orientation in {path}; compute it from the stretched structure, or set `shape: free`"
        )
    return read_force_constants(stretched(system, strain), path)


def read_deformed(system: System, path: Path, basis: FloatArray) -> System:
    """Return the copy of a system, deformed as its symmetry allows, that a phonopy file describes.

    Atoms stand where the file has them; the origin is free.

    Raises:
        InputError: another crystal, or one that is rotated or deformed otherwise.
    """
    found = read_phonopy(system.name, path)
    ours, theirs = (crystal.primitive_matrix.T @ crystal.unit_cell.cell for crystal in (system, found))
    relation = np.rint(theirs @ np.linalg.inv(ours))
    deformation = np.linalg.inv(ours) @ np.linalg.inv(relation) @ theirs if np.linalg.det(relation) else np.zeros(1)
    volume = abs(np.linalg.det(deformation)) ** (1 / 3) if deformation.ndim == 2 else 0.0
    if (
        volume == 0
        or np.abs(deformation - cell_deformation(basis, volume - 1, cell_shape(basis, deformation))).max() > _SAME_SHAPE
    ):
        raise InputError(
            f"quasi_harmonic.files must hold the cell of {system.name!r} deformed as its symmetry allows, in the same "
            f"orientation, but got another one in {path}; compute it from the deformed structure"
        )
    copy = deformed(system, deformation)
    sites = matched_sites(found, copy)
    cell = found.primitive_matrix.T @ found.unit_cell.cell
    away = found.supercell.positions[found.primitive_atoms][sites] - copy.supercell.positions[copy.primitive_atoms]
    away = away - away[0]
    fractions = away @ np.linalg.inv(cell)
    shift = (fractions - np.rint(fractions)) @ cell
    return read_force_constants(deformed(system, deformation, shift - shift.mean(axis=0)), path)


def read_thermal_cell(system: System, path: Path) -> ThermalCell:
    """Return the cell of a system that :func:`activeph.systems.write_phonopy` wrote, and its force constants."""
    member = read_phonopy(system.name, path)
    deformation = np.linalg.inv(system.supercell.cell) @ member.supercell.cell
    shift = _moved(system, member, deformation)
    copy = deformed(system, deformation, shift[system.primitive_atoms])
    constants = read_force_constants(copy, path).force_constants
    assert constants is not None
    return ThermalCell(deformation - np.eye(3), constants, shift if shift.any() else None)


def _moved(system: System, member: System, deformation: FloatArray) -> FloatArray:
    """Return how far the atoms [N, 3] of a deformed copy are from the strained sites, in Å."""
    shift = member.supercell.positions - system.supercell.positions @ deformation
    fractions = shift @ np.linalg.inv(member.supercell.cell)
    found = (fractions - np.rint(fractions)) @ member.supercell.cell
    return np.asarray(np.where(np.abs(found).max() > _MOVED, found, 0.0))
