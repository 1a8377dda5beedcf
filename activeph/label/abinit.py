"""ABINIT. X. Gonze et al., Comput. Phys. Commun. 248, 107042 (2020)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import Answer
from activeph.label.program import program_version, require_program, tail
from activeph.label.program_labeler import ProgramLabeler
from activeph.records import Configuration

ANY_STATUS = tuple(range(256))  # what went wrong is in the log, not in the status
EMPTY_BANDS = 4  # at least, and one per atom


class AbinitLabeler(ProgramLabeler):
    """ABINIT with the user's pseudopotentials. Names of settings are those of its input."""

    HOW_TO_RUN: ClassVar[frozenset[str]] = ProgramLabeler.HOW_TO_RUN | {"pseudo_dir"}
    LADDER_KEYS: ClassVar[frozenset[str]] = frozenset({"max_iterations", "diemix", "diemac"})
    LOG_NAME: ClassVar[str] = "run.abo"

    kind: Literal["abinit"] = "abinit"
    pseudopotentials: dict[str, str] = Field(min_length=1)
    """File of each element below ``pseudo_dir``; they choose the functional unless ``variables`` names one."""
    pseudo_dir: Annotated[Path, Field(strict=False)] = Path("/usr/share/abinit/psp")
    """Where they are."""
    ecut: float = Field(20.0, gt=0.0)
    """Cut-off of the plane waves (Hartree)."""
    pawecutdg: float | None = Field(None, gt=0.0)
    """Cut-off of the fine grid of PAW sets (Hartree)."""
    toldfe: float = Field(1e-9, gt=0.0)
    """Energy change at which self-consistency is reached (Hartree)."""
    valence: dict[str, float] = Field(min_length=1)
    """Valence electrons of each element in its pseudopotential; they decide the number of bands."""
    diemix: float | None = Field(None, gt=0.0, le=1.0)
    """Weight of the new density; ABINIT's own by default."""
    diemac: float | None = Field(None, gt=0.0)
    """Dielectric constant that the mixing supposes; ABINIT's own by default."""
    magnetic_moments: dict[str, float] = Field(default_factory=dict)
    """Initial magnetic moment per element (Bohr magnetons), with ``spin: true``."""
    variables: dict[str, str | int | float] = Field(default_factory=dict)
    """Further variables, such as ``{ixc: 11, vdw_xc: 7}``."""
    ladder: tuple[dict[str, Any], ...] = Field(({"diemix": 0.3, "max_iterations": 300},), strict=False)
    """Settings to try in turn where a calculation did not converge."""
    command: str = "abinit"
    """The program."""

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the program or the pseudopotential of an element is missing."""
        from ase.data import chemical_symbols

        require_program(self.command, "label.command", "ABINIT")
        self._require_launcher()
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            for key, known in (("pseudopotentials", self.pseudopotentials), ("valence", self.valence)):
                if symbol not in known:
                    raise InputError(f"label.{key} must name every element but got none for {symbol}; add it.")
            self._pseudopotential(symbol)

    def _pseudopotential(self, symbol: str) -> Path:
        path = self.pseudo_dir / self.pseudopotentials[symbol]
        if not path.is_file():
            raise InputError(
                f"label.pseudopotentials.{symbol} must be a file below {self.pseudo_dir} but got "
                f"{self.pseudopotentials[symbol]!r}, which is not there; bring it, or set label.pseudo_dir."
            )
        return path

    def _code(self) -> str:
        return "abinit"

    def _facts(self) -> dict[str, Any]:
        program = require_program(self.command, "label.command", "ABINIT")
        hashes = {
            symbol: hashlib.sha256(self._pseudopotential(symbol).read_bytes()).hexdigest()
            for symbol in sorted(self.pseudopotentials)
        }
        return {
            "code_version": program_version(program, ("--version",), r"^(\d+\.\d+\S*)", "ABINIT"),
            "pseudopotentials": hashes,
        }

    def _run(self, configuration: Configuration, workdir: Path) -> Answer:
        (workdir / self.LOG_NAME).unlink(missing_ok=True)  # it would write to another file
        text = "\n".join(f"{name} {value}" for name, value in self._variables(configuration).items())
        (workdir / "run.abi").write_text(text + "\n", encoding="utf-8")
        try:
            status = self._start([self.command, "run.abi"], workdir, log_name="program.txt", accept=ANY_STATUS)
            if status != 0:
                raise LabelFailed(
                    "crashed", f"abinit ended with status {status}: {_complaint(workdir / 'program.txt')}"
                )
            return self._answer(workdir)
        finally:
            for path in [*workdir.glob("runo_*"), *workdir.glob("runtmp_*"), *workdir.glob("runi_*")]:
                path.unlink()

    def _variables(self, configuration: Configuration) -> dict[str, Any]:
        from ase.data import chemical_symbols
        from ase.units import Hartree

        species, kinds = np.unique(configuration.numbers, return_inverse=True)
        symbols = [chemical_symbols[number] for number in species]
        n_atoms = len(configuration.numbers)
        occupied = int(np.ceil(sum(self.valence[symbols[kind]] for kind in kinds) / 2))
        files = ", ".join(self.pseudopotentials[symbol] for symbol in symbols)
        variables: dict[str, Any] = {
            "pp_dirpath": f'"{self.pseudo_dir}"',
            "pseudos": f'"{files}"',
            "ntypat": len(species),
            "znucl": " ".join(map(str, species)),
            "natom": n_atoms,
            "typat": " ".join(str(kind + 1) for kind in kinds),
            "acell": "1 1 1 angstrom",
            "rprim": _rows(configuration.cell),
            "xred": _rows(np.linalg.solve(configuration.cell.T, configuration.positions.T).T),
            "ecut": self.ecut,
            "kptopt": 2,  # k and -k are the same; no other symmetry
            "nsym": 1,
            "ngkpt": " ".join(map(str, self.kpts)),
            "nshiftk": 1,
            "shiftk": "0 0 0",
            "nband": occupied + max(EMPTY_BANDS, n_atoms),
            "occopt": 3 if self.smearing > 0 else 1,
            "nstep": self.max_iterations,
            "toldfe": self.toldfe,
            "optforces": 1,
            "optstress": 1,
            **dict.fromkeys(("prtwf", "prtden", "prtebands"), 0),
        }
        if self.smearing > 0:
            variables["tsmear"] = self.smearing / Hartree
        if self.spin:
            moments = [self.magnetic_moments.get(symbols[kind], 0.0) for kind in kinds]
            variables |= {"nsppol": 2, "nspden": 2, "spinat": "\n".join(f"0 0 {moment}" for moment in moments)}
        optional = {"pawecutdg": self.pawecutdg, "diemix": self.diemix, "diemac": self.diemac}
        return variables | {key: value for key, value in optional.items() if value is not None} | self.variables

    def _answer(self, workdir: Path) -> Answer:
        import h5py
        from ase.units import Bohr, Hartree

        log = (workdir / self.LOG_NAME).read_text(errors="replace")
        if "was not enough SCF cycles to converge" in log:
            raise LabelFailed("unconverged", f"abinit: no convergence in {self.max_iterations} cycles")
        version = re.search(r"Version (\S+) of ABINIT", log)
        try:
            with h5py.File(workdir / "runo_GSR.nc") as results:
                return Answer(
                    energy=float(results["etotal"][()]) * Hartree,
                    forces=results["cartesian_forces"][()] * Hartree / Bohr,
                    stress=results["cartesian_stress_tensor"][()] * Hartree / Bohr**3,  # xx, yy, zz, yz, xz, xy
                    eigenvalues=results["eigenvalues"][()] * Hartree,
                    occupations=results["occupations"][()],
                    weights=results["kpoint_weights"][()],
                    code_version=version.group(1) if version else None,
                    scf_iterations=len(re.findall(r"^ ETOT\s*\d+", log, re.MULTILINE)),
                )
        except (OSError, KeyError) as error:
            raise LabelFailed("crashed", f"results of abinit cannot be read: {error}") from error


def _complaint(log: Path) -> str:
    """Return ABINIT's own message, or the end of the log where it left none."""
    found = re.search(r"--- !ERROR.*?message: \|\n(.*?)\n\.\.\.", log.read_text(errors="replace"), re.DOTALL)
    return " ".join(found.group(1).split()) if found else tail(log)


def _rows(vectors: Any) -> str:
    return "\n".join(" ".join(f"{float(component):.14f}" for component in vector) for vector in vectors)
