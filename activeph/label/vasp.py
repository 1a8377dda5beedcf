"""VASP, for those who have a licence. G. Kresse, J. Furthmüller, Phys. Rev. B 54, 11169 (1996)."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.label.answer import Answer
from activeph.label.program import require_program
from activeph.label.program_labeler import ProgramLabeler
from activeph.label.vasp_xml import read_vasprun
from activeph.records import Configuration
from activeph.section import InputPath

MADE_BY_VASP = (
    *("CHG", "CHGCAR", "CONTCAR", "DOSCAR", "EIGENVAL", "IBZKPT", "OSZICAR", "PCDAT", "PROCAR", "REPORT"),
    *("WAVECAR", "XDATCAR", "vaspout.h5", "POTCAR"),  # potentials are under the licence: they are not kept
)


class VaspLabeler(ProgramLabeler):
    """vasp_std, vasp_gam or vasp_ncl without spin-orbit coupling, with the user's POTCAR files."""

    HOW_TO_RUN: ClassVar[frozenset[str]] = ProgramLabeler.HOW_TO_RUN | {"potentials"}
    LADDER_KEYS: ClassVar[frozenset[str]] = frozenset({"max_iterations", "algo", "amix"})

    kind: Literal["vasp"] = "vasp"
    command: str = "vasp_std"
    """The program."""
    potentials: InputPath | None = None
    """Directory with one directory per potential (``Ag_pv/POTCAR``). Default: ``VASP_PP_PATH/potpaw_PBE``."""
    potential_of: dict[str, str] = Field(min_length=1)
    """Potential of each element, such as ``{Ag: Ag_pv, S: S, Br: Br}``."""
    encut: float = Field(400.0, gt=0.0)
    """Cut-off of the plane waves (eV)."""
    gga: str = "PE"
    """Functional as ``GGA`` names it: PE is PBE, PS is PBEsol."""
    ediff: float = Field(1e-6, gt=0.0)
    """Energy change at which self-consistency is reached (eV)."""
    algo: Literal["Normal", "Fast", "VeryFast", "All", "Damped"] = "Normal"
    """Electronic minimisation."""
    amix: float | None = Field(None, gt=0.0)
    """Linear mixing parameter; VASP's own by default."""
    magnetic_moments: dict[str, float] = Field(default_factory=dict)
    """Initial magnetic moment per element (Bohr magnetons), with ``spin: true``."""
    incar: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Further tags, such as ``{IVDW: 11, LREAL: false}``."""
    ladder: tuple[dict[str, Any], ...] = Field(
        ({"algo": "All", "max_iterations": 200}, {"algo": "Damped", "max_iterations": 400}), strict=False
    )
    """Settings to try in turn where a calculation did not converge."""

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the program or a potential is missing."""
        from ase.data import chemical_symbols

        require_program(shlex.split(self.command)[0], "label.command", "VASP")
        self._require_launcher()
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            if symbol not in self.potential_of:
                raise InputError(
                    f"label.potential_of must name a potential for every element but got none for {symbol}; add it."
                )
            self._potential(symbol)

    def _directory(self) -> Path:
        if self.potentials is not None:
            return self.potentials
        return Path(os.environ.get("VASP_PP_PATH", "potentials")) / "potpaw_PBE"

    def _potential(self, symbol: str) -> bytes:
        path = self._directory() / self.potential_of[symbol] / "POTCAR"
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(
                f"label.potentials must hold a POTCAR for every element but got none for {symbol}: {path} "
                f"({error.strerror}); set label.potentials, VASP_PP_PATH or label.potential_of."
            ) from error

    def _code(self) -> str:
        return "vasp"

    def _facts(self) -> dict[str, Any]:
        """Return a hash of the program, as VASP tells its version only when it runs, and of the potentials."""
        program = require_program(shlex.split(self.command)[0], "label.command", "VASP")
        hashes = {symbol: hashlib.sha256(self._potential(symbol)).hexdigest() for symbol in sorted(self.potential_of)}
        return {"program": hashlib.sha256(Path(program).read_bytes()).hexdigest(), "potentials": hashes}

    def _run(self, configuration: Configuration, workdir: Path) -> Answer:
        order = np.argsort(configuration.numbers, kind="stable")  # VASP wants like atoms together
        self._write(configuration, order, workdir)
        try:
            self._start(shlex.split(self.command), workdir)
            found, answer = read_vasprun(workdir / "vasprun.xml")
        finally:
            for name in MADE_BY_VASP:
                (workdir / name).unlink(missing_ok=True)
        if not np.array_equal(found.numbers, configuration.numbers[order]):
            raise InputError(f"{workdir} must hold the answer to its own POSCAR but got other atoms.")
        forces = np.empty_like(answer.forces)
        forces[order] = answer.forces
        return Answer(**{**vars(answer), "forces": forces})

    def _write(self, configuration: Configuration, order: Any, workdir: Path) -> None:
        from ase.data import chemical_symbols

        symbols = [chemical_symbols[number] for number in configuration.numbers[order]]
        species = list(dict.fromkeys(symbols))
        lines = ["activeph", "1.0", *(_triple(vector) for vector in configuration.cell)]
        lines += [" ".join(species), " ".join(str(symbols.count(symbol)) for symbol in species), "Cartesian"]
        lines += [_triple(position) for position in configuration.positions[order]]
        (workdir / "POSCAR").write_text("\n".join(lines) + "\n")
        (workdir / "POTCAR").write_bytes(b"".join(self._potential(symbol) for symbol in species))
        (workdir / "KPOINTS").write_text(
            f"Gamma-centred\n0\nGamma\n{self.kpts[0]} {self.kpts[1]} {self.kpts[2]}\n0 0 0\n"
        )
        tags = self._tags(symbols)
        (workdir / "INCAR").write_text("".join(f"{name} = {_tag(value)}\n" for name, value in tags.items()))

    def _tags(self, symbols: list[str]) -> dict[str, Any]:
        tags: dict[str, Any] = {
            "ENCUT": self.encut,
            "GGA": self.gga,
            "PREC": "Accurate",
            "EDIFF": self.ediff,
            "NELM": self.max_iterations,
            "ALGO": self.algo,
            "ISMEAR": -1 if self.smearing > 0 else 0,  # Fermi-Dirac, whose free energy the forces belong to
            "SIGMA": self.smearing or 0.01,
            "ISYM": 0,
            "IBRION": -1,
            "NSW": 0,
            "ISIF": 2,
            "LWAVE": False,
            "LCHARG": False,
        }
        if self.amix is not None:
            tags["AMIX"] = self.amix
        if self.spin:
            tags["ISPIN"] = 2
            tags["MAGMOM"] = " ".join(str(self.magnetic_moments.get(symbol, 0.0)) for symbol in symbols)
        return tags | self.incar


def _tag(value: Any) -> str:
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    return str(value)


def _triple(vector: Any) -> str:
    return " ".join(f"{float(component):.16f}" for component in vector)
