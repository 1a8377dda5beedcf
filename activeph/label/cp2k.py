"""CP2K's Quickstep with GTH pseudopotentials. T. D. Kühne et al., J. Chem. Phys. 152, 194103 (2020)."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import Answer
from activeph.label.cp2k_output import read_cp2k
from activeph.label.kpoints import gamma_centred
from activeph.label.program import program_version, require_program
from activeph.label.program_labeler import ProgramLabeler
from activeph.records import Configuration
from activeph.section import InputPath

ANY_STATUS = tuple(range(256))  # versions differ in how they end unconverged; the log tells
EMPTY_BANDS = 4  # at least, and one per atom


class Cp2kLabeler(ProgramLabeler):
    """Density functional theory with Gaussians and plane waves; diagonalisation, so that metals work too."""

    HOW_TO_RUN: ClassVar[frozenset[str]] = ProgramLabeler.HOW_TO_RUN | {"data_dir"}
    LADDER_KEYS: ClassVar[frozenset[str]] = frozenset({"max_iterations", "mixing_alpha"})

    kind: Literal["cp2k"] = "cp2k"
    xc: Literal["PBE", "PBESOL", "PADE", "BLYP"] = "PBE"
    """Exchange and correlation."""
    cutoff: float = Field(400.0, gt=0.0)
    """Cut-off of the density (Ry)."""
    rel_cutoff: float = Field(50.0, gt=0.0)
    """Cut-off that decides which grid a Gaussian goes to (Ry)."""
    basis: str = "DZVP-MOLOPT-SR-GTH"
    """Basis set; single-zeta sets are too small, their stress is wrong several times over."""
    potential: str = "GTH-PBE"
    """Pseudopotential."""
    basis_of: dict[str, str] = Field(default_factory=dict)
    """Basis set of single elements."""
    potential_of: dict[str, str] = Field(default_factory=dict)
    """Pseudopotential of single elements."""
    basis_file: str = "BASIS_MOLOPT"
    """File of the basis sets."""
    potential_file: str = "GTH_POTENTIALS"
    """File of the pseudopotentials."""
    data_dir: InputPath | None = None
    """Where these files are; by default ``CP2K_DATA_DIR``, else ``/usr/share/cp2k``."""
    eps_scf: float = Field(1e-7, gt=0.0)
    """Change of the density matrix at which self-consistency is reached."""
    mixing_alpha: float = Field(0.2, gt=0.0, le=1.0)
    """Weight of the new density in Broyden mixing."""
    magnetic_moments: dict[str, float] = Field(default_factory=dict)
    """Initial magnetic moment per element (Bohr magnetons), with ``spin: true``."""
    ladder: tuple[dict[str, Any], ...] = Field(({"mixing_alpha": 0.05, "max_iterations": 400},), strict=False)
    """Settings to try in turn where a calculation did not converge."""
    command: str = "cp2k.psmp"
    """The program."""

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the program, a basis set or a pseudopotential is missing."""
        from ase.data import chemical_symbols

        require_program(self.command, "label.command", "CP2K")
        self._require_launcher()
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            for name, file in ((self._basis(symbol), self.basis_file), (self._potential(symbol), self.potential_file)):
                if not re.search(rf"^\s*{symbol}\s.*{re.escape(name)}(\s|-q|$)", self._data(file), re.MULTILINE):
                    raise InputError(
                        f"{file} must have {name} for every element but got none for {symbol}; "
                        "name others under label.basis_of or label.potential_of."
                    )

    def _basis(self, symbol: str) -> str:
        return self.basis_of.get(symbol, self.basis)

    def _potential(self, symbol: str) -> str:
        return self.potential_of.get(symbol, self.potential)

    def _directory(self) -> Path:
        return self.data_dir or Path(os.environ.get("CP2K_DATA_DIR", "/usr/share/cp2k"))

    def _data(self, name: str) -> str:
        path = self._directory() / name
        try:
            return _text(path, path.stat().st_mtime_ns)
        except OSError as error:
            raise InputError(
                f"CP2K's data must be in {self._directory()} but got no {name} there ({error.strerror}); "
                "set label.data_dir or CP2K_DATA_DIR."
            ) from error

    def _code(self) -> str:
        return "cp2k"

    def _facts(self) -> dict[str, Any]:
        files = (self.basis_file, self.potential_file)
        hashes = {name: hashlib.sha256(self._data(name).encode()).hexdigest() for name in files}
        return {
            "code_version": program_version(
                require_program(self.command, "label.command", "CP2K"), ("--version",), r"CP2K version (\S+)", "CP2K"
            ),
            "data": hashes,
        }

    def _run(self, configuration: Configuration, workdir: Path) -> Answer:
        points, weights = gamma_centred(self.kpts)
        (workdir / "cp2k.inp").write_text(self._input(configuration, points, weights), encoding="utf-8")
        environment = {"CP2K_DATA_DIR": str(self._directory())}
        command = [self.command, "-i", "cp2k.inp"]
        status = self._start(command, workdir, accept=ANY_STATUS, environment=environment)
        try:
            return read_cp2k(workdir, self.LOG_NAME, weights)
        except LabelFailed as error:
            if error.kind == "crashed" and status != 0:
                raise LabelFailed("crashed", f"{self.command} ended with exit status {status}: {error}") from error
            raise
        finally:
            for path in workdir.glob("cp2k-*"):  # orbital lists and restarts, in the label or of no further use
                path.unlink()

    def _input(self, configuration: Configuration, points: Any, weights: Any) -> str:
        from ase.data import chemical_symbols
        from ase.units import kB

        symbols = [chemical_symbols[number] for number in configuration.numbers]
        n_empty = max(EMPTY_BANDS, len(symbols))
        smear = f"&SMEAR T\nMETHOD FERMI_DIRAC\nELECTRONIC_TEMPERATURE [K] {self.smearing / kB:.6f}\n&END SMEAR\n"
        k_points = "".join(f"KPOINT {_triple(k)} {w:.12f}\n" for k, w in zip(points, weights, strict=True))
        return INPUT.format(
            uks="T" if self.spin else "F",
            basis_file=self.basis_file,
            potential_file=self.potential_file,
            cutoff=self.cutoff,
            rel_cutoff=self.rel_cutoff,
            max_scf=self.max_iterations,
            eps_scf=self.eps_scf,
            added_mos=f"{n_empty} {n_empty + math.ceil(self._moment(symbols))}" if self.spin else n_empty,
            smear=smear if self.smearing > 0 else "",
            alpha=self.mixing_alpha,
            xc=self.xc,
            k_points=K_POINTS.format(k_points=k_points) if len(points) > 1 else "",
            cell="".join(f"{name} {_triple(vector)}\n" for name, vector in zip("ABC", configuration.cell, strict=True)),
            coordinates="".join(f"{s} {_triple(r)}\n" for s, r in zip(symbols, configuration.positions, strict=True)),
            kinds="".join(self._kind(symbol) for symbol in sorted(set(symbols))),
        )

    def _moment(self, symbols: list[str]) -> float:
        """Return the initial moment of the cell: by so many levels the minority spin needs more empty ones."""
        return abs(sum(self.magnetic_moments.get(symbol, 0.0) for symbol in symbols))

    def _kind(self, symbol: str) -> str:
        moment = f"MAGNETIZATION {self.magnetic_moments.get(symbol, 0.0)}\n" if self.spin else ""
        return (
            f"&KIND {symbol}\nBASIS_SET {self._basis(symbol)}\nPOTENTIAL {self._potential(symbol)}\n{moment}&END KIND\n"
        )


@functools.lru_cache(maxsize=8)
def _text(path: Path, changed: int) -> str:
    return path.read_text(errors="replace")


def _triple(vector: Any) -> str:
    return " ".join(f"{float(component):.14f}" for component in vector)


K_POINTS = """&KPOINTS
SCHEME GENERAL
UNITS B_VECTOR
SYMMETRY F
FULL_GRID T
WAVEFUNCTIONS COMPLEX
{k_points}&END KPOINTS
"""  # MONKHORST-PACK with even divisions misses Gamma

INPUT = """&GLOBAL
PROJECT cp2k
RUN_TYPE ENERGY_FORCE
PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
METHOD QUICKSTEP
STRESS_TENSOR ANALYTICAL
&DFT
UKS {uks}
BASIS_SET_FILE_NAME {basis_file}
POTENTIAL_FILE_NAME {potential_file}
&MGRID
CUTOFF [Ry] {cutoff}
REL_CUTOFF [Ry] {rel_cutoff}
&END MGRID
&QS
EPS_DEFAULT 1e-12
&END QS
&SCF
SCF_GUESS ATOMIC
MAX_SCF {max_scf}
EPS_SCF {eps_scf}
ADDED_MOS {added_mos}
{smear}&DIAGONALIZATION T
&END DIAGONALIZATION
&MIXING T
METHOD BROYDEN_MIXING
ALPHA {alpha}
&END MIXING
&PRINT
&RESTART OFF
&END RESTART
&END PRINT
&END SCF
&XC
&XC_FUNCTIONAL {xc}
&END XC_FUNCTIONAL
&END XC
{k_points}&PRINT
&MO
EIGENVALUES T
OCCUPATION_NUMBERS T
NDIGITS 12
FILENAME mo
&EACH
QS_SCF 0
&END EACH
&END MO
&END PRINT
&END DFT
&SUBSYS
&CELL
{cell}PERIODIC XYZ
&END CELL
&COORD
{coordinates}&END COORD
{kinds}&END SUBSYS
&PRINT
&FORCES
FILENAME forces
NDIGITS 14
&END FORCES
&STRESS_TENSOR
FILENAME stress
&END STRESS_TENSOR
&END PRINT
&END FORCE_EVAL
"""
