"""The data card: what a dataset holds, in which units, where from, and how to train on it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from activeph.records import Entry
from activeph.store.export import SPLITS, scalars
from activeph.targets import TARGETS

UNITS = {
    "REF_energy": "total energy of the cell, eV",
    "REF_forces": "forces, eV/Å",
    "REF_stress": "stress matrix (9 numbers in extended XYZ), eV/Å³, positive under tension (ASE's sign)",
    "direct_band_gap": "smallest gap at one k-point, eV",
    "temperature": "temperature the configuration was drawn at, K; absent (NaN in HDF5) where there is none",
    "split": "train, validation or test; fixed: a label never changes its split while the campaign grows",
    "provenance": "ledger key, candidate, arms that paid for it, code, version, settings, cost",
}


def data_card(
    entries: Sequence[Entry], file_format: str, files: Sequence[str], folder: Path, target_names: Sequence[str]
) -> str:
    """Return the card in Markdown; ``files`` lie in ``folder`` at this moment."""
    parts = [
        f"# Data card of {files[0]}",
        f"{len(entries)} labelled configurations of {', '.join(sorted({e.system for e in entries}))} ({file_format}).",
        _files(files, folder),
        "## Numbers of labels",
        _counts("split", entries, lambda entry: [entry.split], SPLITS),
        _counts("system", entries, lambda entry: [entry.system]),
        _counts("temperature (K)", entries, _temperature),
        _counts("arm that paid", entries, lambda entry: entry.arms or [_nobody(entry)]),
        "A label that several arms paid for is counted for each of them and stands in the file once.",
        "## Keys",
        _keys(target_names),
        "## Values",
        _statistics(entries, target_names),
        "## Labelers",
        _labelers(entries),
        _training(files) if file_format == "extxyz" else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _files(files: Sequence[str], folder: Path) -> str:
    sums = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files]
    return _table(["file", "SHA-256"], zip(files, sums, strict=True))


def _counts(
    name: str, entries: Sequence[Entry], group: Callable[[Entry], Iterable[str]], order: Sequence[str] = ()
) -> str:
    counts = Counter(key for entry in entries for key in group(entry))
    names = [key for key in order if key in counts] or sorted(counts, key=lambda key: (len(key), key))
    return _table([name, "labels"], ([key, counts[key]] for key in names))


def _nobody(entry: Entry) -> str:
    return "none (test set)" if entry.split == "test" else "none (preparation, trains in all)"


def _temperature(entry: Entry) -> list[str]:
    return ["unknown" if np.isnan(entry.temperature) else f"{entry.temperature:g}"]


def _keys(target_names: Sequence[str]) -> str:
    edges = ("band_gap", "valence_band_maximum", "conduction_band_minimum")
    targets = {
        name: f"{name.replace('_', ' ')}, {TARGETS[name].unit}" for name in dict.fromkeys([*edges, *target_names])
    }
    return _table(["key", "meaning and unit"], {**UNITS, **targets}.items())


def _statistics(entries: Sequence[Entry], target_names: Sequence[str]) -> str:
    rows = []
    for name in target_names:
        values = np.array([scalars(entry, target_names)[name] for entry in entries])
        numbers = (values.mean(), values.std(), values.min(), values.max())
        rows.append([name, TARGETS[name].unit, *(f"{number:.6g}" for number in numbers)])
    return _table(["target", "unit", "mean", "standard deviation", "smallest", "largest"], rows)


def _labelers(entries: Sequence[Entry]) -> str:
    kinds: dict[str, list[Entry]] = {}
    for entry in entries:
        known = entry.label.provenance
        kinds.setdefault(json.dumps([known.get(key) for key in ("fingerprint", "code", "code_version")]), []).append(
            entry
        )
    blocks = []
    for identity, labelled in sorted(kinds.items()):
        fingerprint, code, version = json.loads(identity)
        settings = json.dumps(labelled[0].label.provenance.get("settings"), indent=1, sort_keys=True, default=str)
        blocks.append(
            f"{code} {version}, fingerprint {fingerprint}, {len(labelled)} labels\n\n```json\n{settings}\n```"
        )
    if len(blocks) > 1:
        blocks.append("Labels of different fingerprints are not to be mixed in one training set without care.")
    return "\n\n".join(blocks)


def _training(files: Sequence[str]) -> str:
    by_split = {split: name for name in files[1:] for split in SPLITS if Path(name).stem.endswith(f"-{split}")}
    options = {"train": "--train_file", "validation": "--valid_file", "test": "--test_file"}
    given = [f"{options[split]} {name}" for split, name in by_split.items()]
    keys = "--energy_key REF_energy --forces_key REF_forces --stress_key REF_stress"
    lines = ["mace_run_train --name model --E0s average --loss stress", *given, keys]
    return "## Training MACE\n\n```\n" + " \\\n    ".join(lines) + "\n```"
