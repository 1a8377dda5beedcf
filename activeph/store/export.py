"""The labelled dataset as one file: the product of a campaign.

Energies, forces and stresses are written under ``REF_energy``, ``REF_forces`` and ``REF_stress`` in eV, eV/Å and eV/Å³
with ASE's sign (positive under tension), which MACE's trainer reads as they are; plain ``energy`` and ``forces`` are
left out because readers take them for calculator results. Scalar targets are in the units of :mod:`activeph.targets`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.records import Entry
from activeph.targets import TARGETS, read_targets

SPLITS = ("train", "validation", "test")
PRIVATE = ("host",)
"""Provenance that concerns nobody else."""

Writer = Callable[[Sequence[Entry], Path, Sequence[str]], list[str]]


def export_entries(entries: Sequence[Entry], file_format: str, path: Path, target_names: Sequence[str]) -> list[Path]:
    """Write ``entries`` to ``path`` as extxyz, ase-db or hdf5, with a data card beside it; return the files written.

    For extxyz every split also gets a file of its own (``name-train.extxyz``, ...), which is what a trainer wants. What
    was written is read back and compared with the labels before the files get their names. The same entries give the
    same bytes (ase-db: the same rows; the format stamps the time of writing). Raises InputError for an unknown
    format, an empty dataset, or where a file would be overwritten.
    """
    from activeph.store.export_card import data_card
    from activeph.store.export_formats import WRITERS

    if file_format not in WRITERS:
        raise InputError(f"format must be one of {', '.join(WRITERS)} but got {file_format!r}; choose one of them.")
    unknown = [name for name in target_names if name not in TARGETS]
    if unknown:
        raise InputError(f"targets must be among {', '.join(TARGETS)} but got {', '.join(unknown)}; correct the names.")
    if not entries:
        raise InputError("a dataset must hold at least one label but got none; run the campaign further first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as name:
        folder = Path(name)
        data = WRITERS[file_format](entries, folder / path.name, target_names)
        card = card_path(path).name
        (folder / card).write_text(data_card(entries, file_format, data, folder, target_names), encoding="utf-8")
        return _move([*data, card], folder, path.parent)


def card_path(path: Path) -> Path:
    """Return where the data card of a dataset file lies."""
    return path.with_name(f"{path.name}.md")


def split_path(path: Path, split: str) -> Path:
    """Return where the part of a dataset file that belongs to one split lies."""
    return path.with_name(f"{path.stem}-{split}{path.suffix}")


def scalars(entry: Entry, target_names: Sequence[str]) -> dict[str, float]:
    """Return the targets of a label and its band edges by name, in eV or the targets' units."""
    label = entry.label
    edges = ("band_gap", "direct_band_gap", "valence_band_maximum", "conduction_band_minimum")
    values = {name: float(getattr(label, name)) for name in edges}
    return values | dict(zip(target_names, read_targets(label, target_names).tolist(), strict=True))


def provenance(entry: Entry) -> dict[str, Any]:
    """Return where a label comes from: ledger key, code, version, settings, cost."""
    kept: Mapping[str, Any] = {name: value for name, value in entry.label.provenance.items() if name not in PRIVATE}
    return {"ledger_key": entry.key, "candidate": entry.candidate, "arms": list(entry.arms), **kept}


def known_temperature(entry: Entry) -> dict[str, float]:
    """Return the temperature in K by name, or nothing where the sampler knew none."""
    return {} if np.isnan(entry.temperature) else {"temperature": float(entry.temperature)}


def _move(names: Sequence[str], folder: Path, target: Path) -> list[Path]:
    existing = [name for name in names if (target / name).exists()]
    if existing:
        raise InputError(
            f"output must be a new file but got {target / existing[0]}, which exists; remove it or choose another name."
        )
    for name in names:
        shutil.move(folder / name, target / name)
    return [target / name for name in names]
