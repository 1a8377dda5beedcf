"""What a file of force constants was found to be, for people."""

from __future__ import annotations

from dataclasses import dataclass

from activeph.phonons.transfer import matched_sites
from activeph.records import System

_SAME_MASS = 0.01  # amu, by which tables of natural masses may differ


@dataclass(frozen=True)
class Examination:
    """What a file of force constants was found to be. Deviations are relative to the largest force constant."""

    atoms: int  # of the supercell they were computed in
    transfer: str  # same, folded (from a larger supercell, exact) or interpolated (from a smaller or other one)
    polar: bool  # Born charges given: the dipole-dipole part was treated apart in an interpolation
    sum_rule: float  # largest drift Σ_j Φ(i, j) as read; imposed since
    permutation: float  # largest Φ(i, j) - Φ(j, i)ᵀ as read; imposed since
    space_group: float  # largest distance from the crystal's symmetry after the two above; reported, not imposed
    masses: str  # elements with other masses than the system has, which count; empty where there are none
    stated: bool  # whether cell and units are told by the file, or by one beside it; else they are the system's, eV, Å

    def __str__(self) -> str:
        how = f"{self.transfer}, polar" if self.polar else self.transfer
        told = (
            f"force constants of {self.atoms} atoms ({how}); as read they miss the acoustic sum rule by "
            f"{self.sum_rule:.1%}, the order of atoms by {self.permutation:.1%} and the space group by "
            f"{self.space_group:.1%} of the largest"
        )
        if not self.stated:
            told += "; taken as eV and Å for this supercell, as no phonopy.yaml of their calculation lies beside"
        if self.masses:
            told += f"; masses in the file are not used: set `masses` of the system to {self.masses}"
        return told


def other_masses(source: System, system: System) -> str:
    """Return a mapping of elements to the masses (amu) that a file has for them, where the system has others."""
    from ase.data import chemical_symbols

    sites = source.primitive_atoms[matched_sites(source, system)]
    theirs, ours = source.masses[sites], system.masses[system.primitive_atoms]
    numbers = source.supercell.numbers[sites]
    found = {
        f"{chemical_symbols[Z]}: {mass:g}"
        for Z, mass, own in zip(numbers, theirs, ours, strict=True)
        if abs(mass - own) > _SAME_MASS
    }
    return "{" + ", ".join(sorted(found)) + "}" if found else ""
