"""Labels and failures as files: ``label.json`` or ``failure.json``, and ``arrays.npz``. Bit exact both ways.

Scalars and provenance are JSON (NaN as null); arrays are NumPy's own format, guarded by a SHA-256 in the JSON file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.records import Configuration, Failure, Label

FORMAT = 1
LABEL_NAME = "label.json"
FAILURE_NAME = "failure.json"
ARRAYS_NAME = "arrays.npz"
SCALARS = ("energy", "band_gap", "direct_band_gap", "valence_band_maximum", "conduction_band_minimum")
ARRAYS = ("forces", "stress", "eigenvalues", "occupations")
CONFIGURATION = ("numbers", "positions", "cell")


def write_outcome(directory: Path, key: str, configuration: Configuration, outcome: Label | Failure) -> None:
    """Write a label or a failure with its configuration into a directory."""
    arrays = {name: getattr(configuration, name) for name in CONFIGURATION}
    facts: dict[str, Any] = {"format": FORMAT, "key": key}
    if isinstance(outcome, Label):
        arrays |= {name: getattr(outcome, name) for name in ARRAYS}
        facts |= {name: _to_json(getattr(outcome, name)) for name in SCALARS}
    else:
        facts |= {"kind": outcome.kind, "message": outcome.message}
    facts["provenance"] = _to_json(outcome.provenance)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    facts["arrays_sha256"] = hashlib.sha256(stream.getbuffer()).hexdigest()
    (directory / ARRAYS_NAME).write_bytes(stream.getbuffer())
    name = LABEL_NAME if isinstance(outcome, Label) else FAILURE_NAME
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / name).write_text(text + "\n", encoding="utf-8")


def read_outcome(directory: Path) -> Label | Failure | None:
    """Return what a directory holds, None where it does not exist. Raises InputError where it is damaged."""
    for name in (LABEL_NAME, FAILURE_NAME):
        try:
            text = (directory / name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            return _parse(directory, json.loads(text), name)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"{directory / name} must be a whole record but got damage ({error}); "
                "remove the directory to have it calculated again, or restore it from a copy."
            ) from error
    return None


def _parse(directory: Path, facts: dict[str, Any], name: str) -> Label | Failure:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']}, known is {FORMAT}")
    if name == FAILURE_NAME:
        return Failure(facts["kind"], facts["message"], facts["provenance"])
    arrays = read_arrays(directory, facts["arrays_sha256"])
    fields: dict[str, Any] = {key: math.nan if facts[key] is None else float(facts[key]) for key in SCALARS}
    fields |= {key: arrays[key] for key in ARRAYS}
    fields["configuration"] = Configuration(*(arrays[key] for key in CONFIGURATION))
    return Label(**fields, provenance=facts["provenance"])


def read_arrays(directory: Path, sha256: str) -> dict[str, np.ndarray]:
    """Return the arrays of a record. Raises ValueError where they are not what was written."""
    data = (directory / ARRAYS_NAME).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"the hash of {ARRAYS_NAME} differs")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _to_json(value: Any) -> Any:
    """Return plain JSON values: NumPy's scalars and arrays unpacked, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, np.generic):
        return _to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
