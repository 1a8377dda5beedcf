"""Labels and failures as files: ``label.json`` or ``failure.json``, and ``arrays.npz``. Bit exact both ways.

Scalars and provenance are JSON (NaN as null); arrays are NumPy's own format, guarded by a SHA-256 in the JSON file.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import math
import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

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
    return unpacked(data)


PLAIN = b"\x93NUMPY\x01\x00"  # what an array of NumPy's format 1.0 begins with; two bytes with a length follow


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file of plain arrays as ``np.load`` does, in a tenth of the time."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            lengths = struct.unpack_from("<HH", data, member.header_offset + 26)  # of name and extra field
            start = member.header_offset + 30 + sum(lengths)
            if member.compress_type != zipfile.ZIP_STORED or data[start : start + 8] != PLAIN:
                raise ValueError(f"{member.filename} is no plain array")
            (length,) = struct.unpack_from("<H", data, start + 8)
            start += 10
            kind, shape, order = _form(data[start : start + length])
            if kind.hasobject:
                raise ValueError(f"{member.filename} is no plain array")
            array = np.frombuffer(data, kind, math.prod(shape), start + length).reshape(shape, order=order)
            arrays[member.filename.removesuffix(".npy")] = array.copy(order="K")
    return arrays


@functools.lru_cache(maxsize=256)
def _form(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """Return kind, shape and order of an array from its header, of which labels of one crystal share a few."""
    facts = ast.literal_eval(header.decode("latin1"))
    return np.dtype(facts["descr"]), facts["shape"], "F" if facts["fortran_order"] else "C"


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
