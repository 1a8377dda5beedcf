"""Reads what CP2K prints: the log, the forces, the stress and the list of orbital energies. Hartree units, GPa."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from activeph.errors import LabelFailed
from activeph.label.answer import GPA_IN_EV_PER_A3, Answer
from activeph.records import FloatArray

BLOCK = re.compile(
    r"MO\|\s+(?:(ALPHA|BETA)\s+)?EIGENVALUES AND OCCUPATION NUMBERS(?:.*?K POINT\s+(\d+))?[^\n]*\n(.*?)MO\| Sum",
    re.DOTALL,
)
LEVEL = re.compile(r"MO\|\s+\d+\s+([-+.\dE]+)\s+[-+.\dE]+\s+([-+.\dE]+)\s*$", re.MULTILINE)
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def read_cp2k(directory: Path, log_name: str, weights: FloatArray) -> Answer:
    """Return the answer of a finished calculation with k-points of these weights.

    Raises LabelFailed: ``unconverged`` where the log says so, ``crashed`` where something is missing.
    """
    from ase.units import Bohr, Hartree

    log = (directory / log_name).read_text(errors="replace")
    steps = re.findall(r"SCF run converged in\s+(\d+) (?:steps|iterations)", log)
    if "SCF run NOT converged" in log:
        raise LabelFailed("unconverged", "cp2k: SCF run NOT converged")
    energies = re.findall(r"ENERGY\| Total FORCE_EVAL.*?:\s+([-+.\dEe]+)", log)
    version = re.search(r"CP2K version (\S+)", log)
    if not steps or not energies:
        raise LabelFailed("crashed", f"cp2k stopped before its end; its last lines: {log[-1000:].strip()}")
    try:
        eigenvalues, occupations = _bands(_only(directory, "*.MOLog").read_text(), len(weights))
        return Answer(
            energy=float(energies[-1]) * Hartree,
            forces=_forces(_only(directory, "*forces*").read_text()) * Hartree / Bohr,
            stress=_stress(_only(directory, "*.stress_tensor").read_text()),
            eigenvalues=eigenvalues * Hartree,
            occupations=occupations,
            weights=weights,
            code_version=version.group(1) if version else None,
            scf_iterations=int(steps[-1]),
        )
    except (ValueError, IndexError, KeyError) as error:
        raise LabelFailed("crashed", f"output of cp2k cannot be read: {error}") from error


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if not found:
        raise ValueError(f"there is no file {pattern}")
    return found[-1]


def _forces(text: str) -> FloatArray:
    """Return forces [N, 3] in Hartree/Bohr: lines of atom, kind, element, three components."""
    rows = [line.split()[-3:] for line in text.splitlines() if re.match(r"\s*\d+\s+\d+\s+\w+\s", line)]
    return np.array(rows, dtype=np.float64)


def _stress(text: str) -> FloatArray:
    """Return the stress [6]; CP2K's tensor is positive under compression."""
    rows = re.findall(r"^ STRESS\|\s+[xyz]((?:\s+[-+.\dE]+){3})\s*$", text, re.MULTILINE)[:3]
    tensor = np.array([row.split() for row in rows], dtype=np.float64)
    return -np.array([tensor[index] for index in VOIGT]) * GPA_IN_EV_PER_A3


def _bands(text: str, n_points: int) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues (Hartree) and occupations [spins, k-points, bands]; the last block of each kind counts."""
    blocks: dict[tuple[int, int], FloatArray] = {}
    for spin, point, body in BLOCK.findall(text):
        key = (1 if spin == "BETA" else 0, int(point or 1) - 1)
        blocks[key] = np.array(LEVEL.findall(body), dtype=np.float64)
    channels = 1 + max(spin for spin, _ in blocks)
    n_bands = min(map(len, blocks.values()))  # of a magnet, one spin has more of the empty ones than the other
    levels = np.array([[blocks[spin, point][:n_bands] for point in range(n_points)] for spin in range(channels)])
    return levels[..., 0], levels[..., 1]
