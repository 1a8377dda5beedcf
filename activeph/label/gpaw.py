"""GPAW with plane waves. J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024)."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import Answer
from activeph.label.gpaw_job import UNCONVERGED
from activeph.label.program import tail
from activeph.label.program_labeler import ProgramLabeler, require_python_package
from activeph.records import Configuration
from activeph.section import Section

JOB = Path(__file__).with_name("gpaw_job.py")
EMPTY_BANDS_MARGIN = "CBM+0.01"  # eV: GPAW converges occupied bands only unless told; the gap needs one more
EMPTY_BANDS = 6  # at least, and one for two atoms: a metal must have bands above the Fermi level at every k-point


class GpawMode(Section):
    """Plane waves: GPAW's other modes have no stress or need a grid per crystal."""

    pw: float = Field(350.0, gt=0.0)
    """Cut-off energy (eV)."""


class GpawLabeler(ProgramLabeler):
    """GPAW in plane-wave mode, in a process of its own."""

    LADDER_KEYS: ClassVar[frozenset[str]] = frozenset({"max_iterations", "mixing", "eigensolver"})

    kind: Literal["gpaw"] = "gpaw"
    mode: GpawMode = GpawMode()
    """``{pw: E}``: plane waves up to E (eV)."""
    xc: str = "PBE"
    """Exchange and correlation; PAW data sets must exist for it."""
    setups: dict[str, str] = Field(default_factory=dict)
    """PAW data set per element where not the default one, such as ``{Ag: '11'}``."""
    magnetic_moments: dict[str, float] = Field(default_factory=dict)
    """Initial magnetic moment per element (Bohr magnetons), with ``spin: true``."""
    convergence: dict[str, float] = Field(default_factory=dict)
    """GPAW's convergence criteria where not its defaults: ``energy``, ``density``, ``eigenstates``, ``forces``."""
    mixing: float | None = Field(None, gt=0.0, le=1.0)
    """Weight of the new density in Pulay mixing; GPAW's own choice by default."""
    eigensolver: Literal["dav", "rmm-diis", "cg"] | None = None
    """Iterative diagonalisation; GPAW's own choice by default."""
    max_iterations: int = Field(150, ge=1)
    """Iterations after which a calculation counts as unconverged."""
    ladder: tuple[dict[str, Any], ...] = Field(({"mixing": 0.02, "max_iterations": 400},), strict=False)
    """Settings to try in turn where a calculation did not converge."""

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where GPAW or a PAW data set is missing."""
        require_python_package("gpaw", self.kind, "gpaw")
        self._require_launcher()
        self._setup_files(configuration)

    def _code(self) -> str:
        return "gpaw"

    def _facts(self) -> dict[str, Any]:
        require_python_package("gpaw", self.kind, "gpaw")
        return {"code_version": importlib.metadata.version("gpaw"), "data": _data_version()}

    def _setup_files(self, configuration: Configuration) -> None:
        from ase.data import chemical_symbols
        from gpaw import setup_paths

        paths = [Path(path) for path in setup_paths] + _data_paths()
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            setup = self.setups.get(symbol, "")
            name = ".".join(part for part in (symbol, setup, self.xc) if part)
            if not any((path / f"{name}{ending}").exists() for path in paths for ending in ("", ".gz")):
                raise InputError(
                    f"label.kind gpaw must have a PAW data set for every element but got none named {name}; "
                    "install gpaw-data, set GPAW_SETUP_PATH, or change label.xc or label.setups."
                )

    def _keywords(self, n_atoms: int) -> dict[str, Any]:
        keywords: dict[str, Any] = {
            "mode": {"name": "pw", "ecut": self.mode.pw},
            "xc": self.xc,
            "kpts": {"size": self.kpts, "gamma": True},
            "occupations": {"name": "fermi-dirac", "width": self.smearing},
            "symmetry": {"point_group": False},  # time reversal stays: k and -k are the same
            "setups": self.setups,
            "spinpol": self.spin,
            "nbands": -max(EMPTY_BANDS, n_atoms // 2),
            "maxiter": self.max_iterations,
            "convergence": {"bands": EMPTY_BANDS_MARGIN, **self.convergence},
            "txt": self.LOG_NAME,
        }
        if self.mixing is not None:
            backend = {"method": "separate"} if not self.spin else {"method": "difference"}
            keywords["mixer"] = {"backend": "pulay", "beta": self.mixing, "nmaxold": 5, "weight": 50.0, **backend}
        if self.eigensolver is not None:
            keywords["eigensolver"] = self.eigensolver
        return keywords

    def _run(self, configuration: Configuration, workdir: Path) -> Answer:
        from ase.data import chemical_symbols

        moments = [self.magnetic_moments.get(chemical_symbols[number], 0.0) for number in configuration.numbers]
        task = {
            "numbers": configuration.numbers.tolist(),
            "positions": configuration.positions.tolist(),
            "cell": configuration.cell.tolist(),
            "magnetic_moments": moments if self.spin else None,
            "keywords": self._keywords(len(moments)),
        }
        (workdir / "input.json").write_text(json.dumps(task, indent=1), encoding="utf-8")
        python = [sys.executable, "-m", "gpaw", "python"] if self.cores > 1 else [sys.executable]
        shutil.copyfile(JOB, workdir / "job.py")  # where it lies now, no module of ours can hide one of GPAW's
        command = [*python, "job.py", "input.json", "answer.npz"]
        if self._start(command, workdir, log_name="program.txt", accept=(0, UNCONVERGED)) == UNCONVERGED:
            raise LabelFailed("unconverged", f"gpaw: {tail(workdir / self.LOG_NAME)[-300:]}")
        with np.load(workdir / "answer.npz") as answer:
            result = Answer(
                energy=float(answer["energy"]),
                forces=answer["forces"],
                stress=answer["stress"],
                eigenvalues=answer["eigenvalues"],
                occupations=answer["occupations"],
                weights=answer["weights"],
                code_version=str(answer["version"]),
                scf_iterations=int(answer["iterations"]),
            )
        (workdir / "answer.npz").unlink()  # all of it is in the label
        return result


def _data_paths() -> list[Path]:
    """Return where the package gpaw-data keeps its files."""
    from importlib.util import find_spec

    found = find_spec("gpaw_data")
    return [Path(place) / "setups" for place in found.submodule_search_locations or ()] if found else []


def _data_version() -> str | None:
    try:
        return importlib.metadata.version("gpaw-data")
    except importlib.metadata.PackageNotFoundError:
        return None
