"""What training and choosing read again and again of labels, in one file: a copy, never the truth.

A record of the ledger takes a tenth of a millisecond to open, check and unpack, ten times as long where the disk has to
look for it, and a campaign would read all of its own in every round. The pack holds all but bands and settings of those
that were read before. Each is compared with its record by inode, time and size of ``label.json`` before it is used, so
what was replaced or removed is noticed. The file grows by frames, each guarded by a SHA-256; what is torn is dropped,
and read from the ledger again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeph.records import Configuration, Failure, FloatArray, IntArray, Label
from activeph.rundir import write_bytes
from activeph.store.ledger import Ledger
from activeph.store.records_io import LABEL_NAME, SCALARS

FORMAT = 1
ALIGNMENT = 64
NO_BANDS = np.empty((0, 0, 0))
KEY_BYTES = 32
Stamp = tuple[int, int, int]


class LabelPack:
    """The labels of a ledger without their bands, with a memory at ``path``, which may be missing and may be deleted.

    One process uses it at a time: the driver, which holds the run directory.
    """

    def __init__(self, ledger: Ledger, path: Path) -> None:
        self._ledger = ledger
        self._path = path
        self._frames, self._end = _read(path)
        self._places = {key: (frame, row) for frame in self._frames for row, key in enumerate(frame.keys)}
        self._fresh: dict[str, tuple[Stamp, Label]] = {}  # read from the ledger since the last save

    def get(self, key: str) -> Label | Failure | None:
        """Return what is known of a calculation as :meth:`Ledger.get` does.

        Eigenvalues and occupations of labels are empty [0, 0, 0], of provenance there is ``wall_time`` alone.
        """
        stamp = self._stamp(key)
        if stamp is None:
            return self._ledger.get(key)
        frame, row = self._places.get(key, (None, 0))
        if frame is not None and frame.stamps[row] == stamp:
            return frame.label(row)
        known = self._fresh.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        label = self._ledger.get(key)
        if not isinstance(label, Label):
            return label
        slim = replace(
            label,
            eigenvalues=NO_BANDS,
            occupations=NO_BANDS,
            provenance={"wall_time": label.provenance.get("wall_time")},
        )
        self._fresh[key] = (stamp, slim)
        return slim

    def save(self) -> None:
        """Remember what was read from the ledger since. Nothing is lost where the file system refuses."""
        if not self._fresh:
            return
        n_old = sum(len(frame.keys) for frame in self._frames) - len(self._places)
        with contextlib.suppress(OSError):
            if 2 * n_old > len(self._places):
                self._rewrite()
            else:
                self._append()

    def _append(self) -> None:
        data = _frame(
            list(self._fresh), [each[0] for each in self._fresh.values()], [x[1] for x in self._fresh.values()]
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("r+b" if self._path.exists() else "wb") as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            stream.write(data)
        self._take_in(_parse(data, 0))
        self._end += len(data)

    def _rewrite(self) -> None:
        """Write one frame of what is current, where most of the file is not."""
        current = {key: (frame.stamps[row], frame.label(row)) for key, (frame, row) in self._places.items()}
        current |= self._fresh
        data = _frame(list(current), [each[0] for each in current.values()], [each[1] for each in current.values()])
        write_bytes(self._path, data)
        self._frames, self._end = [], len(data)
        self._take_in(_parse(data, 0))

    def _take_in(self, frame: Frame | None) -> None:
        assert frame is not None
        self._frames.append(frame)
        self._places |= {key: (frame, row) for row, key in enumerate(frame.keys)}
        self._fresh.clear()

    def _stamp(self, key: str) -> Stamp | None:
        """Return what changes when a label is replaced; None where there is none."""
        try:
            facts = os.stat(f"{self._ledger.root}/{key[:2]}/{key}/{LABEL_NAME}")  # pathlib would take twice as long
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size


@dataclass(frozen=True, eq=False)
class Frame:
    """Labels that were written at once. L labels, A atoms of all of them."""

    size: int  # bytes of the frame
    keys: Sequence[str]  # [L]
    stamps: Sequence[Stamp]  # [L] inode, time and size of the record's file
    edges: Sequence[int]  # [L + 1] first atom of each
    scalars: FloatArray  # [L, 6] those of records_io, and the wall time
    cells: FloatArray  # [L, 3, 3]
    stresses: FloatArray  # [L, 6]
    numbers: IntArray  # [A]
    positions: FloatArray  # [A, 3]
    forces: FloatArray  # [A, 3]

    def label(self, row: int) -> Label:
        """Return one label; its arrays are parts of the frame's."""
        part = slice(self.edges[row], self.edges[row + 1])
        values = self.scalars[row].tolist()
        return Label(
            configuration=Configuration(self.numbers[part], self.positions[part], self.cells[row]),
            forces=self.forces[part],
            stress=self.stresses[row],
            eigenvalues=NO_BANDS,
            occupations=NO_BANDS,
            provenance={"wall_time": None if math.isnan(values[-1]) else values[-1]},
            **dict(zip(SCALARS, values, strict=False)),
        )


def _frame(keys: Sequence[str], stamps: Sequence[Stamp], labels: Sequence[Label]) -> bytes:
    """Return labels as a frame: a line of JSON, filled up with blanks, and the arrays one after another."""
    counts = [len(label.configuration.numbers) for label in labels]
    times = [label.provenance.get("wall_time") for label in labels]
    scalars = [
        [*(getattr(label, name) for name in SCALARS), math.nan if time is None else float(time)]
        for label, time in zip(labels, times, strict=True)
    ]
    arrays: list[NDArray[Any]] = [
        np.array(keys, dtype=f"S{KEY_BYTES}"),
        np.array(stamps, dtype=np.uint64),
        np.cumsum([0, *counts], dtype=np.int64),
        np.array(scalars, dtype=np.float64),
        np.array([label.configuration.cell for label in labels], dtype=np.float64),
        np.array([label.stress for label in labels], dtype=np.float64),
        np.concatenate([label.configuration.numbers for label in labels]).astype(np.int64),
        np.concatenate([label.configuration.positions for label in labels]).astype(np.float64),
        np.concatenate([label.forces for label in labels]).astype(np.float64),
    ]
    body = b"".join(array.tobytes() for array in arrays)
    facts = {"format": FORMAT, "labels": len(labels), "atoms": sum(counts), "sha256": hashlib.sha256(body).hexdigest()}
    head = json.dumps(facts).encode()
    return head + b" " * (-(len(head) + 1) % ALIGNMENT) + b"\n" + body


def _parse(data: bytes | memoryview, start: int) -> Frame | None:
    """Return the frame that begins at a byte of ``data``, None where there is no whole one."""
    end = bytes(data[start : start + 4 * ALIGNMENT]).find(b"\n")
    try:
        facts = json.loads(bytes(data[start : start + max(end, 0)]))
        n, atoms, sha256 = int(facts["labels"]), int(facts["atoms"]), facts["sha256"]
        is_known = facts["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        return None
    shapes: list[tuple[str, tuple[int, ...]]] = [
        (f"S{KEY_BYTES}", (n,)),
        ("<u8", (n, 3)),
        ("<i8", (n + 1,)),
        ("<f8", (n, len(SCALARS) + 1)),
        ("<f8", (n, 3, 3)),
        ("<f8", (n, 6)),
        ("<i8", (atoms,)),
        ("<f8", (atoms, 3)),
        ("<f8", (atoms, 3)),
    ]
    size = sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in shapes)
    body = memoryview(data)[start + end + 1 : start + end + 1 + size]
    if not is_known or len(body) < size or hashlib.sha256(body).hexdigest() != sha256:
        return None
    arrays: list[Any] = []
    offset = 0
    for kind, shape in shapes:
        arrays.append(np.frombuffer(body, kind, math.prod(shape), offset).reshape(shape))
        offset += arrays[-1].nbytes
    keys, stamps, edges = (array.tolist() for array in arrays[:3])
    return Frame(end + 1 + size, [key.decode() for key in keys], [tuple(stamp) for stamp in stamps], edges, *arrays[3:])


def _read(path: Path) -> tuple[list[Frame], int]:
    """Return the whole frames at the beginning of a file, and where they end."""
    try:
        data = path.read_bytes()
    except OSError:
        return [], 0
    frames: list[Frame] = []
    end = 0
    while (frame := _parse(data, end)) is not None:
        frames.append(frame)
        end += frame.size
    return frames, end
