"""Reads what pw.x of Quantum ESPRESSO (6.4 and later) writes for machines: ``data-file-schema.xml``. Hartree units."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from activeph.errors import LabelFailed
from activeph.label.answer import Answer
from activeph.records import Configuration, FloatArray

VOIGT = [0, 4, 8, 5, 2, 1]


def read_espresso_xml(path: Path) -> tuple[Configuration, Answer]:
    """Return configuration and answer of a finished run.

    Raises LabelFailed: ``unconverged`` where the file says so, ``crashed`` where it is torn or lacks forces or stress.
    """
    try:
        root = ElementTree.parse(path).getroot()
        output = _child(root, "output")
        _check_converged(root, output)
        return _configuration(output), _answer(root, output)
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise LabelFailed("crashed", f"{path.name} of pw.x cannot be read: {error}") from error


def _check_converged(root: ElementTree.Element, output: ElementTree.Element) -> None:
    """Raise LabelFailed where self-consistency was not reached.

    With ``scf_must_converge = .false.`` pw.x writes that it was, so its error in Hartree is compared too.
    """
    steps = f"pw.x: no convergence in {_text(output, 'convergence_info/scf_conv/n_scf_steps')} iterations"
    if _text(output, "convergence_info/scf_conv/convergence_achieved") != "true":
        raise LabelFailed("unconverged", steps)
    error = float(output.findtext("convergence_info/scf_conv/scf_error", "0"))
    asked = float(root.findtext("input/electron_control/conv_thr", "inf"))
    if error > asked:
        raise LabelFailed("unconverged", f"{steps}: error {error:g} Hartree, asked {asked:g} Hartree")


def _configuration(output: ElementTree.Element) -> Configuration:
    from ase.data import atomic_numbers
    from ase.units import Bohr

    atoms = output.findall("atomic_structure/atomic_positions/atom")
    cell = [_numbers(_text(output, f"atomic_structure/cell/{name}")) for name in ("a1", "a2", "a3")]
    symbols = [atom.attrib["name"].rstrip("0123456789").partition("_")[0] for atom in atoms]
    return Configuration(
        np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64),
        np.array([_numbers(atom.text or "") for atom in atoms]) * Bohr,
        np.array(cell) * Bohr,
    )


def _answer(root: ElementTree.Element, output: ElementTree.Element) -> Answer:
    from ase.units import Bohr, Hartree

    bands = _child(output, "band_structure")
    if _text(bands, "noncolin") == "true":
        raise ValueError("non-collinear spins are not supported")
    channels = 2 if _text(bands, "lsda") == "true" else 1
    points = bands.findall("ks_energies")
    eigenvalues = np.array([_numbers(_text(point, "eigenvalues")) for point in points])
    occupations = np.array([_numbers(_text(point, "occupations")) for point in points]) * (2 // channels)
    shape = (len(points), channels, -1)  # the two spins follow each other in one list
    creator = _child(root, "general_info/creator")
    return Answer(
        energy=float(_text(output, "total_energy/etot")) * Hartree,
        forces=_numbers(_text(output, "forces")).reshape(-1, 3) * Hartree / Bohr,
        stress=-_numbers(_text(output, "stress"))[VOIGT] * Hartree / Bohr**3,  # pw.x: positive under compression
        eigenvalues=eigenvalues.reshape(shape).swapaxes(0, 1) * Hartree,
        occupations=occupations.reshape(shape).swapaxes(0, 1),
        weights=np.array([float(_child(point, "k_point").attrib["weight"]) for point in points]),
        code_version=creator.attrib.get("VERSION"),
        scf_iterations=int(_text(output, "convergence_info/scf_conv/n_scf_steps")),
    )


def _child(element: ElementTree.Element, path: str) -> ElementTree.Element:
    found = element.find(path)
    if found is None:
        raise KeyError(f"there is no {path}")
    return found


def _text(element: ElementTree.Element, path: str) -> str:
    return (_child(element, path).text or "").strip()


def _numbers(text: str) -> FloatArray:
    return np.array(text.split(), dtype=np.float64)
