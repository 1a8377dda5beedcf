"""Extended tight binding through tblite: labels in a second, no files to bring. Gamma point only.

GFN2-xTB: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019). GFN1-xTB: S. Grimme, C.
Bannwarth, P. Shushkov, J. Chem. Theory Comput. 13, 1989 (2017).
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import Answer, label_of
from activeph.label.fingerprint import settings_fingerprint
from activeph.records import Configuration, Label
from activeph.section import Section

HEAVIEST_ELEMENT = 86  # radon: the parametrisation ends there
LOG_NAME = "scf.log"


class XtbLabeler(Section):
    """Extended tight binding at the Gamma point of the given cell."""

    kind: Literal["xtb"] = "xtb"
    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    """Parametrisation; GFN1-xTB gives neither forces nor stress, which tblite gets wrong in periodic cells."""
    accuracy: float = Field(1.0, gt=0.0, le=1000.0)
    """Threshold of the self-consistency relative to tblite's default; smaller is tighter."""
    max_iterations: int = Field(250, ge=1)
    """Iterations after which a calculation counts as unconverged."""
    electronic_temperature: float = Field(300.0, ge=0.0)
    """Temperature of the Fermi occupations (K)."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the settings and the version of tblite."""
        first = {"method"} if self.method == "GFN2-xTB" else set()  # named as before there was a choice
        return settings_fingerprint(self, exclude=first, code_version=importlib.metadata.version("tblite"))

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where an element has no parameters."""
        from ase.data import chemical_symbols

        heavy = sorted({int(number) for number in configuration.numbers if number > HEAVIEST_ELEMENT})
        if heavy:
            names = ", ".join(chemical_symbols[number] for number in heavy)
            raise InputError(
                f"label.kind xtb ({self.method}) must have elements up to radon but got {names}; "
                "use another label.kind."
            )

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the label; the iterations are left in ``scf.log``. Raises LabelFailed where it does not converge."""
        self.check(configuration)
        log: list[str] = []
        start = time.perf_counter()
        try:
            answer = self._run(configuration, log)
        finally:
            (workdir / LOG_NAME).write_text("\n".join(log) + "\n", encoding="utf-8")
        provenance = {
            "code": "tblite",
            "fingerprint": self.fingerprint,
            "settings": self.model_dump(mode="json"),
            "wall_time": time.perf_counter() - start,
        }
        label = label_of(configuration, answer, provenance)
        if self.method == "GFN1-xTB":
            return replace(label, forces=np.full_like(label.forces, np.nan), stress=np.full(6, np.nan))
        return label

    def _run(self, configuration: Configuration, log: list[str]) -> Answer:
        from ase.units import Bohr, Hartree
        from tblite.exceptions import TBLiteRuntimeError
        from threadpoolctl import threadpool_limits

        # sums over threads differ in the last digits from run to run: one thread unless the user asks for more
        with threadpool_limits(None if "OMP_NUM_THREADS" in os.environ else 1):
            try:
                result = self._calculator(configuration, log).singlepoint().dict()
            except TBLiteRuntimeError as error:
                kind = "unconverged" if "not converged" in str(error) else "crashed"
                raise LabelFailed(kind, f"tblite: {error}") from error
        virial = np.asarray(result["virial"]) * Hartree / abs(np.linalg.det(configuration.cell))
        return Answer(
            energy=float(result["energy"]) * Hartree,
            forces=-np.asarray(result["gradient"]) * Hartree / Bohr,
            stress=virial.flat[[0, 4, 8, 5, 2, 1]],
            eigenvalues=np.atleast_2d(result["orbital-energies"])[:, None, :] * Hartree,
            occupations=np.atleast_2d(result["orbital-occupations"])[:, None, :],
            weights=np.ones(1),
            code_version=importlib.metadata.version("tblite"),
            scf_iterations=sum(1 for line in log if line.strip()[:1].isdigit()),
        )

    def _calculator(self, configuration: Configuration, log: list[str]) -> Any:
        from ase.units import Bohr, Hartree, kB
        from tblite.interface import Calculator

        calculator = Calculator(
            self.method,
            np.asarray(configuration.numbers),
            configuration.positions / Bohr,
            lattice=configuration.cell / Bohr,
            periodic=np.array([True, True, True]),
            color=False,
            logger=log.append,
        )
        calculator.set("accuracy", self.accuracy)
        calculator.set("max-iter", self.max_iterations)
        calculator.set("temperature", self.electronic_temperature * kB / Hartree)
        calculator.set("verbosity", 1)
        return calculator
