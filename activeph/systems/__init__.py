"""Crystals in and out: structures, supercells and force constants, through ASE and phonopy."""

from activeph.systems.displacements import finite_displacements, with_force_constants
from activeph.systems.files import write_phonopy
from activeph.systems.load import load_system

__all__ = ["finite_displacements", "load_system", "with_force_constants", "write_phonopy"]
