"""Reads VASP's ``vasprun.xml``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from activeph.errors import LabelFailed
from activeph.label.answer import GPA_IN_EV_PER_A3, Answer
from activeph.records import Configuration, FloatArray

KBAR_IN_EV_PER_A3 = 0.1 * GPA_IN_EV_PER_A3
VOIGT = [0, 4, 8, 5, 2, 1]


def read_vasprun(path: Path) -> tuple[Configuration, Answer]:
    """Return configuration and answer of the last ionic step.

    Raises LabelFailed: ``unconverged`` where the last electronic step was the last one allowed and still changed the
    energy, ``crashed`` where the file is torn or lacks something.
    """
    try:
        root = ElementTree.parse(path).getroot()
        calculation = root.findall("calculation")[-1]
        iterations = _check_converged(root, calculation)
        return _configuration(root, calculation), _answer(root, calculation, iterations)
    except (OSError, ElementTree.ParseError, KeyError, ValueError, IndexError) as error:
        raise LabelFailed("crashed", f"{path.name} of VASP cannot be read: {error}") from error


def _check_converged(root: ElementTree.Element, calculation: ElementTree.Element) -> int:
    """Return the number of electronic steps."""
    steps = calculation.findall("scstep")
    allowed, threshold = int(_parameter(root, "NELM", "60")), float(_parameter(root, "EDIFF", "1e-4"))
    energies = [float(_text(step, "energy/i[@name='e_fr_energy']")) for step in steps]
    if len(steps) >= allowed and (len(steps) < 2 or abs(energies[-1] - energies[-2]) > threshold):
        raise LabelFailed("unconverged", f"VASP: no convergence in {len(steps)} electronic steps")
    return len(steps)


def _configuration(root: ElementTree.Element, calculation: ElementTree.Element) -> Configuration:
    from ase.data import atomic_numbers

    symbols = [_text(row, "c").strip() for row in root.findall("atominfo/array[@name='atoms']/set/rc")]
    cell = _rows(calculation, "structure/crystal/varray[@name='basis']")
    fractions = _rows(calculation, "structure/varray[@name='positions']")
    numbers = np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)
    return Configuration(numbers, fractions @ cell, cell)


def _answer(root: ElementTree.Element, calculation: ElementTree.Element, iterations: int) -> Answer:
    bands = np.array(
        [
            [[row.text.split()[:2] for row in point.findall("r") if row.text] for point in spin.findall("set")]
            for spin in calculation.findall("eigenvalues/array/set/set")
        ],
        dtype=np.float64,
    )
    if bands.ndim != 4:
        raise ValueError("there are no eigenvalues")
    stress = -_rows(calculation, "varray[@name='stress']").ravel()[VOIGT]  # VASP: positive under compression
    return Answer(
        energy=_energy(root, calculation),
        forces=_rows(calculation, "varray[@name='forces']"),
        stress=stress * KBAR_IN_EV_PER_A3,
        eigenvalues=bands[..., 0],
        occupations=bands[..., 1] * (2 // len(bands)),  # VASP: 1 where full, with or without spin
        weights=_rows(root, "kpoints/varray[@name='weights']").ravel(),
        code_version=_text(root, "generator/i[@name='version']").strip(),
        scf_iterations=iterations,
    )


def _energy(root: ElementTree.Element, calculation: ElementTree.Element) -> float:
    """Return the free energy in eV; what this element holds under PSTRESS (kB) is an enthalpy."""
    volume = float(abs(np.linalg.det(_rows(calculation, "structure/crystal/varray[@name='basis']"))))
    pressure = float(_parameter(root, "PSTRESS", "0")) * KBAR_IN_EV_PER_A3
    return float(_text(calculation, "energy/i[@name='e_fr_energy']")) - pressure * volume


def _parameter(root: ElementTree.Element, name: str, default: str) -> str:
    found = root.find(f"parameters//i[@name='{name}']")
    return found.text if found is not None and found.text else default


def _text(element: ElementTree.Element, path: str) -> str:
    found = element.find(path)
    if found is None or found.text is None:
        raise KeyError(f"there is no {path}")
    return found.text


def _rows(element: ElementTree.Element, path: str) -> FloatArray:
    found = element.find(path)
    if found is None:
        raise KeyError(f"there is no {path}")
    return np.array([(row.text or "").split() for row in found.findall("v")], dtype=np.float64)
