"""Writers of the dataset: each writes, reads back what it wrote, and compares it with the labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from activeph.errors import ActivephError
from activeph.records import Entry, FloatArray
from activeph.store.export import SPLITS, Writer, known_temperature, provenance, scalars, split_path

if TYPE_CHECKING:
    from ase import Atoms

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Position of each element of the stress matrix in (xx, yy, zz, yz, xz, xy)."""


def write_extxyz(entries: Sequence[Entry], path: Path, target_names: Sequence[str]) -> list[str]:
    """Write all entries to ``path`` and each split to a file of its own; return the names."""
    import ase.io

    parts = {split_path(path, split): [e for e in entries if e.split == split] for split in SPLITS}
    written = {path: list(entries), **{part: chosen for part, chosen in parts.items() if chosen}}
    for part, chosen in written.items():
        ase.io.write(part, [_atoms(entry, target_names) for entry in chosen], format="extxyz")
        found = ase.io.read(part, index=":", format="extxyz")
        _compare(chosen, (_references(atoms) for atoms in found), part)
    return [part.name for part in written]


def write_ase_db(entries: Sequence[Entry], path: Path, target_names: Sequence[str]) -> list[str]:
    """Write an ASE database (SQLite); energy, forces and stress are also the row's own, scalars its key-value pairs."""
    import ase.db
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db.row import AtomsRow

    with ase.db.connect(path, type="db", append=False) as database:
        for number, entry in enumerate(entries, start=1):
            atoms = _bare_atoms(entry)
            label = entry.label
            atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces, stress=label.stress)
            row = AtomsRow(atoms)
            row.unique_id, row.ctime, row.user = f"{number:032x}", 0.0, None  # equal datasets, equal rows
            pairs = {
                **scalars(entry, target_names),
                **known_temperature(entry),
                "REF_energy": float(label.energy),
                "split": entry.split,
            }
            data = {
                "REF_forces": label.forces,
                "REF_stress": label.stress[VOIGT],
                "system": entry.system,
                "provenance": provenance(entry),
            }
            database.write(row, key_value_pairs=pairs, data=data)
    rows = ase.db.connect(path, type="db").select()
    _compare(entries, ((row.REF_energy, row.data["REF_forces"], row.data["REF_stress"]) for row in rows), path)
    return [path.name]


def write_hdf5(entries: Sequence[Entry], path: Path, target_names: Sequence[str]) -> list[str]:
    """Write one group of stacked arrays per system (and shape of its spectrum), units as attributes."""
    import h5py

    groups = _groups(entries)
    with h5py.File(path, "w") as file:
        file.attrs["targets"] = json.dumps(list(target_names))
        for name, members in groups.items():
            _write_group(file.create_group(name), members, target_names)
    with h5py.File(path) as file:
        for name, members in groups.items():
            _compare(members, zip(*(file[name][key][()] for key in _REFERENCES), strict=True), path)
    return [path.name]


WRITERS: dict[str, Writer] = {"extxyz": write_extxyz, "ase-db": write_ase_db, "hdf5": write_hdf5}

_REFERENCES = ("REF_energy", "REF_forces", "REF_stress")


def _groups(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return entries that can be stacked, by system; a system with several shapes gets ``name#2`` and so on."""
    shapes: dict[tuple[Any, ...], str] = {}
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        shape = (entry.system, len(entry.label.configuration.numbers), entry.label.eigenvalues.shape)
        same = sum(other[0] == entry.system for other in shapes)
        name = shapes.setdefault(shape, entry.system if same == 0 else f"{entry.system}#{same + 1}")
        groups.setdefault(name, []).append(entry)
    return groups


def _write_group(group: Any, entries: Sequence[Entry], target_names: Sequence[str]) -> None:
    labels = [entry.label for entry in entries]
    arrays = {
        "numbers": (np.stack([label.configuration.numbers for label in labels]), ""),
        "positions": (np.stack([label.configuration.positions for label in labels]), "Å"),
        "cell": (np.stack([label.configuration.cell for label in labels]), "Å"),
        "REF_energy": (np.array([label.energy for label in labels]), "eV"),
        "REF_forces": (np.stack([label.forces for label in labels]), "eV/Å"),
        "REF_stress": (np.stack([label.stress[VOIGT] for label in labels]), "eV/Å³"),
        "eigenvalues": (np.stack([label.eigenvalues for label in labels]), "eV"),
        "occupations": (np.stack([label.occupations for label in labels]), ""),
        "temperature": (np.array([entry.temperature for entry in entries]), "K"),
    }
    values = [scalars(entry, target_names) for entry in entries]
    arrays |= {name: (np.array([value[name] for value in values]), _unit(name)) for name in values[0]}
    for name, (array, unit) in arrays.items():
        group.create_dataset(name, data=array).attrs["unit"] = unit
    words = {
        "split": [entry.split for entry in entries],
        "candidate": [entry.candidate for entry in entries],
        "ledger_key": [entry.key for entry in entries],
        "provenance": [json.dumps(provenance(entry), sort_keys=True) for entry in entries],
    }
    for name, texts in words.items():
        group.create_dataset(name, data=np.array(texts, dtype=object), dtype=_string_type())


def _string_type() -> Any:
    import h5py

    return h5py.string_dtype()


def _unit(name: str) -> str:
    from activeph.targets import TARGETS

    return TARGETS[name].unit if name in TARGETS else "eV"


def _bare_atoms(entry: Entry) -> Atoms:
    from ase import Atoms

    configuration = entry.label.configuration
    return Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)


def _atoms(entry: Entry, target_names: Sequence[str]) -> Atoms:
    """Return atoms whose info survives extended XYZ: words that a reader could take for numbers go into the JSON."""
    atoms, label = _bare_atoms(entry), entry.label
    atoms.info["REF_energy"] = float(label.energy)
    atoms.info["REF_stress"] = label.stress[VOIGT].ravel()  # nine plain numbers: every reader takes those
    atoms.info |= scalars(entry, target_names) | known_temperature(entry)
    atoms.info["split"] = entry.split
    atoms.info["provenance"] = {"system": entry.system, **provenance(entry)}
    atoms.arrays["REF_forces"] = np.array(label.forces)
    return atoms


def _references(atoms: Atoms) -> tuple[float, FloatArray, FloatArray]:
    return atoms.info["REF_energy"], atoms.arrays["REF_forces"], atoms.info["REF_stress"].reshape(3, 3)


def _compare(entries: Sequence[Entry], found: Iterable[tuple[float, FloatArray, FloatArray]], path: Path) -> None:
    """Raise ActivephError unless what was read back equals the labels (extended XYZ keeps 8 decimals)."""
    n_equal = sum(
        np.isclose(energy, entry.label.energy, rtol=0, atol=1e-8)
        and np.allclose(forces, entry.label.forces, rtol=0, atol=2e-8)
        and np.allclose(stress, entry.label.stress[VOIGT], rtol=0, atol=2e-8)
        for entry, (energy, forces, stress) in zip(entries, found, strict=True)
    )
    if n_equal != len(entries):
        raise ActivephError(
            f"{path.name} must read back as the {len(entries)} labels written to it but got {n_equal} equal ones; "
            "please report this with the versions of ase and h5py."
        )
