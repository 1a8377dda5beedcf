"""Any calculator of ASE, by import path and arguments."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import math
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import unweighted
from activeph.label.edges import UNKNOWN, BandEdges, band_edges
from activeph.label.fingerprint import named_files, settings_fingerprint
from activeph.records import Configuration, FloatArray, Label
from activeph.section import Section

NO_BANDS = np.zeros((0, 0, 0))


class AseLabeler(Section):
    """Runs an ASE calculator in the worker's own process.

    Energy (the free one where a calculator knows it) and forces are needed; a stress that the calculator does not know
    is NaN. Bands are read where it has ASE's methods for eigenvalues, occupations and k-points of electrons, and are
    NaN (and empty) where it has not, as in force fields. A calculator that says ``converged = False`` or raises ASE's
    ``CalculationFailed`` with the word "converge" gave no label.
    """

    kind: Literal["ase"] = "ase"
    calculator: str = Field(pattern=r"^[\w.]+[:.]\w+$")
    """Import path of a class or function that returns a calculator, such as ``ase.calculators.emt:EMT``."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the call, passed on as they are. The content of files that they name by a path with a slash
    is part of what a label is known by."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits of path, arguments, files named there and the version of the calculator's package."""
        files = named_files(self.arguments)
        return settings_fingerprint(self, code_version=self._version(), **({"files": files} if files else {}))

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the calculator cannot be made."""
        self._calculator()

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the label. Raises LabelFailed where the calculator says that it did not converge."""
        from ase import Atoms
        from ase.calculators.calculator import CalculationFailed

        start = time.perf_counter()
        atoms = Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
        calculator = self._calculator()
        if "directory" not in self.arguments and getattr(calculator, "directory", None) is not None:
            calculator.directory = str(workdir)
        atoms.calc = calculator
        try:
            energy = _energy(atoms)
            forces = np.array(atoms.get_forces(), dtype=np.float64)
            stress = _stress(atoms)
        except CalculationFailed as error:
            raise LabelFailed("unconverged" if "converge" in str(error) else "crashed", str(error)) from error
        if _says_unconverged(calculator):
            raise LabelFailed("unconverged", f"{self.calculator} reports that it has not converged")
        eigenvalues, occupations, edges = _bands(calculator)
        return Label(
            configuration=configuration,
            energy=energy,
            forces=forces,
            stress=stress,
            band_gap=edges.band_gap,
            direct_band_gap=edges.direct_band_gap,
            valence_band_maximum=edges.valence_band_maximum,
            conduction_band_minimum=edges.conduction_band_minimum,
            eigenvalues=eigenvalues,
            occupations=occupations,
            provenance=self._provenance(calculator, time.perf_counter() - start),
        )

    def _calculator(self) -> Any:
        module, separator, name = self.calculator.rpartition(":")
        if not separator:
            module, _, name = self.calculator.rpartition(".")
        try:
            maker = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"label.calculator must be the import path of an ASE calculator but got {self.calculator!r} ({error}); "
                "write it as module:Class and install its package."
            ) from error
        try:
            return maker(**self.arguments)
        except Exception as error:
            raise InputError(
                f"label.arguments must suit {self.calculator} but got {type(error).__name__}: {error}; correct them."
            ) from error

    def _version(self) -> str | None:
        return _package_version(self.calculator.replace(":", ".").partition(".")[0])

    def _provenance(self, calculator: Any, wall_time: float) -> dict[str, Any]:
        iterations = getattr(calculator, "get_number_of_iterations", None)
        return {
            "code": type(calculator).__name__,
            "code_version": self._version(),
            "fingerprint": self.fingerprint,
            "settings": self.model_dump(mode="json"),
            "scf_iterations": iterations() if callable(iterations) else None,
            "wall_time": wall_time,
            "host": socket.gethostname(),
        }


@functools.cache
def _package_version(package: str) -> str | None:
    """Return the version of the distribution that an import name belongs to; None for a module of the user's own."""
    with suppress(importlib.metadata.PackageNotFoundError):
        namesake = importlib.metadata.distribution(package)
        if package in (namesake.read_text("top_level.txt") or "").split():  # spares a look into every package there is
            return namesake.version
    names = importlib.metadata.packages_distributions().get(package, [])
    return importlib.metadata.version(names[0]) if names else None


def _energy(atoms: Any) -> float:
    """Return the energy that the forces are derivatives of: the free one where occupations are smeared."""
    energy = atoms.get_potential_energy()  # of many codes extrapolated to no smearing
    free = getattr(atoms.calc, "results", {}).get("free_energy")
    return float(energy if free is None else free)


def _stress(atoms: Any) -> FloatArray:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        return np.array(atoms.get_stress(), dtype=np.float64)
    except (PropertyNotImplementedError, NotImplementedError):
        return np.full(6, math.nan)


def _says_unconverged(calculator: Any) -> bool:
    converged = getattr(calculator, "converged", None)
    if callable(converged):
        converged = converged()
    return converged is False


def _bands(calculator: Any) -> tuple[FloatArray, FloatArray, BandEdges]:
    """Return eigenvalues and occupations [spins, k-points, bands] and their edges; empty where they are not known."""
    try:
        weights = np.asarray(calculator.get_k_point_weights(), dtype=np.float64)
        channels = range(int(calculator.get_number_of_spins()))
        points = range(len(weights))
        eigenvalues = np.array([[calculator.get_eigenvalues(kpt=k, spin=s) for k in points] for s in channels])
        occupations = np.array([[calculator.get_occupation_numbers(kpt=k, spin=s) for k in points] for s in channels])
    except (AttributeError, NotImplementedError, TypeError, RuntimeError):
        return NO_BANDS, NO_BANDS, UNKNOWN
    if eigenvalues.dtype == object or eigenvalues.size == 0 or eigenvalues.shape != occupations.shape:
        return NO_BANDS, NO_BANDS, UNKNOWN
    weights = weights / weights.sum()
    occupations = unweighted(occupations, weights)
    return eigenvalues, occupations, band_edges(eigenvalues, occupations, weights)
