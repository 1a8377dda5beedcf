"""Crystals in and out: structures, supercells and force constants, through ASE and phonopy."""

from activeph.systems.displacements import finite_displacements, with_force_constants
from activeph.systems.examination import Examination
from activeph.systems.files import examined_force_constants, read_phonopy, write_phonopy
from activeph.systems.load import load_system
from activeph.systems.renormalised import plot_rounds, renormalised, write_rounds
from activeph.systems.spectrum import effective_spectra, plot_spectra, spectrum

__all__ = [
    "Examination",
    "effective_spectra",
    "examined_force_constants",
    "finite_displacements",
    "load_system",
    "plot_rounds",
    "plot_spectra",
    "read_phonopy",
    "renormalised",
    "spectrum",
    "with_force_constants",
    "write_phonopy",
    "write_rounds",
]
