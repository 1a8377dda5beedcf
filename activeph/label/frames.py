"""Labels from files of labelled structures: extended XYZ, ASE databases, and whatever else ASE reads.

Recognised names, first match first: ``REF_energy``, ``free_energy`` (that of the forces), ``energy``; ``REF_forces``,
``forces``; ``REF_stress``, ``stress``, or virials (``REF_virials``, ``virials``, ``virial``; stress = -virial/volume);
band edges with or without ``REF_`` under the names of :data:`EDGE_NAMES`. What a file does not say is NaN, except the
energy, which must be there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.records import Configuration, FloatArray, Label

if TYPE_CHECKING:
    from ase import Atoms

EDGE_NAMES = {
    "band_gap": ("band_gap", "bandgap", "gap"),
    "direct_band_gap": ("direct_band_gap", "direct_gap"),
    "valence_band_maximum": ("valence_band_maximum", "vbm"),
    "conduction_band_minimum": ("conduction_band_minimum", "cbm"),
}
VOIGT = [0, 4, 8, 5, 2, 1]  # xx, yy, zz, yz, xz, xy of a flattened 3 x 3 tensor


def read_frames(path: Path) -> tuple[Label, ...]:
    """Return the labels of all structures in a file. Raises InputError where there is none or one is incomplete."""
    return _read(path, modification_time(path))


def modification_time(path: Path) -> int:
    """Return when a file was changed last, in ns. Raises InputError where it is missing."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise InputError(
            f"a file of labelled structures must exist but got {str(path)!r} ({error.strerror}); correct the path."
        ) from error


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> tuple[Label, ...]:
    try:
        frames = _structures(path)
    except Exception as error:
        raise InputError(
            f"{path} must be readable by ASE but got {type(error).__name__}: {error}; convert it to extended XYZ."
        ) from error
    if not frames:
        raise InputError(f"{path} must hold labelled structures but got an empty file; give another file.")
    return tuple(label_of_frame(atoms, f"{path}, structure {number}") for number, atoms in enumerate(frames))


def _structures(path: Path) -> list[Atoms]:
    """Return all structures of a file; databases with what they say beside the calculator's results."""
    if path.suffix == ".db":
        from ase.db import connect

        return [row.toatoms(add_additional_information=True) for row in connect(path).select()]
    from ase.io import read

    return list(read(path, index=":"))


def label_of_frame(atoms: Atoms, source: str) -> Label:
    """Return the label that a structure carries. Raises InputError without an energy or with a cell that is not 3D."""
    facts = _facts(atoms)
    if abs(atoms.cell.volume) < 1e-6:
        raise InputError(f"{source} must have a periodic cell but got volume 0; give crystals.")
    energy = _first(facts, "REF_energy", "free_energy", "energy")
    if energy is None:
        raise InputError(f"{source} must carry an energy but got only {sorted(facts)}; name it energy or REF_energy.")
    edges = _edges(facts)
    forces = _first(facts, "REF_forces", "forces")
    return Label(
        configuration=Configuration(
            atoms.numbers.astype(np.int64), atoms.positions.astype(np.float64), atoms.cell.array.astype(np.float64)
        ),
        energy=float(energy),
        forces=np.full((len(atoms), 3), math.nan) if forces is None else np.array(forces, dtype=np.float64),
        stress=_stress(facts, atoms.cell.volume),
        **edges,
        eigenvalues=np.zeros((0, 0, 0)),
        occupations=np.zeros((0, 0, 0)),
        provenance={"source": source},
    )


def _facts(atoms: Atoms) -> dict[str, Any]:
    """Return everything a structure says, under one set of names. Forces are those before any constraint."""
    facts: dict[str, Any] = dict(atoms.info)
    facts |= dict(facts.pop("key_value_pairs", {}))  # ASE databases
    facts |= {name: values for name, values in atoms.arrays.items() if name not in ("numbers", "positions")}
    if atoms.calc is not None:
        facts |= {name: value for name, value in atoms.calc.results.items() if value is not None}
    return facts


def _edges(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the four band-edge fields; a conduction band that is not told follows from gap and valence band."""
    edges = {}
    for field, names in EDGE_NAMES.items():
        value = _first(facts, *(f"REF_{name}" for name in names), *names)
        edges[field] = math.nan if value is None else float(value)
    if math.isnan(edges["conduction_band_minimum"]):
        edges["conduction_band_minimum"] = edges["valence_band_maximum"] + edges["band_gap"]
    return edges


def _stress(facts: Mapping[str, Any], volume: float) -> FloatArray:
    stress = _first(facts, "REF_stress", "stress")
    if stress is not None:
        return _voigt(np.asarray(stress, dtype=np.float64))
    virial = _first(facts, "REF_virials", "REF_virial", "virials", "virial")
    if virial is not None:
        return -_voigt(np.asarray(virial, dtype=np.float64)) / volume
    return np.full(6, math.nan)


def _voigt(tensor: NDArray[np.float64]) -> FloatArray:
    """Return a stress of 6, 9 or 3 x 3 numbers in ASE's order of 6."""
    return tensor.ravel().copy() if tensor.size == 6 else tensor.ravel()[VOIGT]


def _first(facts: Mapping[str, Any], *names: str) -> Any:
    return next((facts[name] for name in names if name in facts), None)
