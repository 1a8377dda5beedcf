"""What the printed output of VASP and pw.x tells of self-consistency, which ASE reads without asking for it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

HEAD = 4000  # characters in which a program names itself
NUMBER = r"([-+.\dEeDd]+)"
OF_OUTCAR = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
OF_PW = re.compile(r"convergence (NOT|has been) achieved (?:after|in)\s+(\d+) iterations")
ACCURACY = re.compile(rf"estimated scf accuracy\s*<\s*{NUMBER} Ry")
THRESHOLD = re.compile(rf"scf convergence threshold\s*=\s*{NUMBER}")


@functools.lru_cache(maxsize=8)
def unconverged(path: Path, changed: int) -> tuple[str | None, ...]:
    """Return for each structure of a file why it is not converged, None where it is; nothing for other kinds of files.

    ``changed`` is the time of its last change, for the memory of this function. Raises OSError.
    """
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "r") as stream:
        try:
            head = stream.read(HEAD)
        except UnicodeDecodeError:
            return ()
    read = _outcar if re.match(r"\s*vasp\.\d", head) else _pw if "Program PWSCF" in head else None
    if read is None:
        return ()
    with open_with_compression(str(path), "r") as stream:
        return tuple(read(stream))


def _outcar(lines: Iterable[str]) -> Iterator[str | None]:
    """Read an OUTCAR: VASP says that a threshold was reached, and before version 6 nothing where it was not."""
    steps, is_converged = 0, False
    for line in lines:
        if found := OF_OUTCAR.search(line):
            steps, is_converged = int(found[1]), False
        elif "aborting loop because EDIFF is reached" in line:
            is_converged = True
        elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            yield None if is_converged else f"VASP: no convergence in {steps} electronic steps"


def _pw(lines: Iterable[str]) -> Iterator[str | None]:
    """Read the output of pw.x, which with ``scf_must_converge = .false.`` calls achieved what is not."""
    threshold = accuracy = float("inf")
    for line in lines:
        if found := THRESHOLD.search(line):
            threshold = _number(found[1])
        elif found := ACCURACY.search(line):
            accuracy = _number(found[1])
        elif found := OF_PW.search(line):
            if found[1] == "NOT":
                yield f"pw.x: no convergence in {found[2]} iterations"
            elif accuracy > threshold:
                yield f"pw.x: no convergence in {found[2]} iterations: accuracy {accuracy:g} Ry, asked {threshold:g} Ry"
            else:
                yield None


def _number(text: str) -> float:
    return float(text.upper().replace("D", "E"))
