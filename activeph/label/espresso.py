"""Quantum ESPRESSO's pw.x. P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017)."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import Answer
from activeph.label.espresso_xml import read_espresso_xml
from activeph.label.program import program_version, require_program
from activeph.label.program_labeler import ProgramLabeler
from activeph.records import Configuration
from activeph.section import InputPath

UNCONVERGED = 2  # exit status of pw.x
EMPTY_BANDS = 4  # at least; a fifth of the occupied ones where that is more


class EspressoLabeler(ProgramLabeler):
    """pw.x with the user's pseudopotentials. Names of settings are those of its input."""

    HOW_TO_RUN: ClassVar[frozenset[str]] = ProgramLabeler.HOW_TO_RUN | {"pseudo_dir"}
    LADDER_KEYS: ClassVar[frozenset[str]] = frozenset({"max_iterations", "mixing_beta", "diagonalization"})

    kind: Literal["espresso"] = "espresso"
    pseudopotentials: dict[str, str] = Field(min_length=1)
    """File of each element, such as ``{Si: Si.pbe-n-rrkjus_psl.1.0.0.UPF}``. They choose the functional."""
    pseudo_dir: InputPath | None = None
    """Where they are; by default ``ESPRESSO_PSEUDO``, else ``/usr/share/espresso/pseudo``."""
    ecutwfc: float = Field(50.0, gt=0.0)
    """Cut-off of the wave functions (Ry)."""
    ecutrho: float | None = Field(None, gt=0.0)
    """Cut-off of the density (Ry); pw.x takes 4 times ``ecutwfc``, ultrasoft and PAW sets need 8 to 12 times."""
    conv_thr: float = Field(1e-8, gt=0.0)
    """Estimated energy error at which self-consistency is reached (Ry)."""
    mixing_beta: float = Field(0.7, gt=0.0, le=1.0)
    """Weight of the new density."""
    diagonalization: Literal["david", "cg", "ppcg", "paro"] = "david"
    """Iterative diagonalisation."""
    magnetic_moments: dict[str, float] = Field(default_factory=dict)
    """Initial magnetic moment per element (Bohr magnetons), with ``spin: true``."""
    system: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """Further entries of ``&system``, such as ``{input_dft: PBESOL, vdw_corr: dft-d3}``."""
    ladder: tuple[dict[str, Any], ...] = Field(
        ({"mixing_beta": 0.3, "max_iterations": 300}, {"mixing_beta": 0.2, "diagonalization": "cg"}), strict=False
    )
    """Settings to try in turn where a calculation did not converge."""
    command: str = "pw.x"
    """The program."""

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the program or the pseudopotential of an element is missing."""
        from ase.data import chemical_symbols

        require_program(self.command, "label.command", "Quantum ESPRESSO")
        self._require_launcher()
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            if symbol not in self.pseudopotentials:
                raise InputError(
                    f"label.pseudopotentials must name a file for every element but got none for {symbol}; "
                    f"add {symbol} and put its file into {self._directory()}."
                )
            self._pseudopotential(symbol)

    def _directory(self) -> Path:
        return self.pseudo_dir or Path(os.environ.get("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"))

    def _pseudopotential(self, symbol: str) -> Path:
        path = self._directory() / self.pseudopotentials[symbol]
        if not path.is_file():
            raise InputError(
                f"label.pseudopotentials.{symbol} must be a file of {self._directory()} but got {path.name!r}, "
                "which is not there; bring it, or set label.pseudo_dir."
            )
        return path

    def _code(self) -> str:
        return "espresso"

    def _facts(self) -> dict[str, Any]:
        hashes = {
            symbol: hashlib.sha256(self._pseudopotential(symbol).read_bytes()).hexdigest()
            for symbol in sorted(self.pseudopotentials)
        }
        program = require_program(self.command, "label.command", "Quantum ESPRESSO")
        return {
            "code_version": program_version(program, (), r"Program PWSCF v\.(\S+)", "Quantum ESPRESSO"),
            "pseudopotentials": hashes,
        }

    def _run(self, configuration: Configuration, workdir: Path) -> Answer:
        (workdir / "pw.in").write_text(self._input(configuration), encoding="utf-8")
        output = workdir / "pwscf.save"
        status = self._start([self.command, "-in", "pw.in"], workdir, accept=(0, UNCONVERGED))
        try:
            if status == UNCONVERGED:
                raise LabelFailed("unconverged", f"pw.x: no convergence in {self.max_iterations} iterations")
            answer = read_espresso_xml(output / "data-file-schema.xml")[1]
            shutil.copyfile(output / "data-file-schema.xml", workdir / "data-file-schema.xml")
        finally:
            for path in workdir.glob("pwscf.*"):  # wave functions and densities: large, and of no further use
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return answer

    def _input(self, configuration: Configuration) -> str:
        from ase.data import atomic_masses, chemical_symbols

        symbols = [chemical_symbols[number] for number in configuration.numbers]
        species = sorted(set(symbols))
        namelists = {
            "control": {
                "calculation": "scf",
                "pseudo_dir": str(self._directory()),
                "outdir": ".",
                "prefix": "pwscf",
                "tprnfor": True,
                "tstress": True,
                "disk_io": "low",
                "verbosity": "high",
            },
            "system": self._system(symbols, species),
            "electrons": {
                "conv_thr": self.conv_thr,
                "mixing_beta": self.mixing_beta,
                "diagonalization": self.diagonalization,
                "electron_maxstep": self.max_iterations,
            },
        }
        lines = [line for name, entries in namelists.items() for line in _namelist(name, entries)]
        lines.append("ATOMIC_SPECIES")
        for symbol in species:
            mass = atomic_masses[chemical_symbols.index(symbol)]
            lines.append(f"{symbol} {mass:.6f} {self.pseudopotentials[symbol]}")
        lines += ["CELL_PARAMETERS angstrom", *(_triple(vector) for vector in configuration.cell)]
        lines.append("ATOMIC_POSITIONS angstrom")
        lines += [f"{symbol} {_triple(r)}" for symbol, r in zip(symbols, configuration.positions, strict=True)]
        lines += ["K_POINTS automatic", f"{self.kpts[0]} {self.kpts[1]} {self.kpts[2]} 0 0 0"]
        return "\n".join(lines) + "\n"

    def _system(self, symbols: list[str], species: list[str]) -> dict[str, Any]:
        from ase.units import Ry

        valence = {symbol: valence_charge(self._pseudopotential(symbol)) for symbol in species}
        occupied = math.ceil(sum(valence[symbol] for symbol in symbols) / 2)
        entries: dict[str, Any] = {
            "ibrav": 0,
            "nat": len(symbols),
            "ntyp": len(species),
            "ecutwfc": self.ecutwfc,
            "nbnd": occupied + max(EMPTY_BANDS, occupied // 5),
            "nosym": True,
        }
        if self.ecutrho is not None:
            entries["ecutrho"] = self.ecutrho
        if self.smearing > 0:
            entries |= {"occupations": "smearing", "smearing": "fermi-dirac", "degauss": self.smearing / Ry}
        else:
            entries["occupations"] = "fixed"
        if self.spin:
            entries["nspin"] = 2
            for index, symbol in enumerate(species, start=1):
                moment = self.magnetic_moments.get(symbol, 0.0) / valence[symbol]
                entries[f"starting_magnetization({index})"] = max(-1.0, min(1.0, moment))
        return entries | self.system


def valence_charge(pseudopotential: Path) -> float:
    """Return the valence charge in the header of a UPF file, of the first or the second version of that format."""
    head = pseudopotential.read_text(errors="replace")[:200_000]
    found = re.search(r'z_valence\s*=\s*"\s*([\d.eEdD+-]+)', head) or re.search(r"([\d.eEdD+-]+)\s+Z valence", head)
    if found is None:
        raise InputError(f"{pseudopotential} must be a UPF file but got no valence charge; give another file.")
    return float(found.group(1).lower().replace("d", "e"))


def _namelist(name: str, entries: dict[str, Any]) -> list[str]:
    return [f"&{name}", *(f"  {key} = {_fortran(value)}" for key, value in entries.items()), "/"]


def _fortran(value: Any) -> str:
    if isinstance(value, bool):
        return ".true." if value else ".false."
    return f"'{value}'" if isinstance(value, str) else repr(value)


def _triple(vector: Any) -> str:
    return " ".join(f"{float(component):.14f}" for component in vector)
