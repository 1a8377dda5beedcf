"""The append-only journal: what is true of a campaign, one JSON object per line.

One writer. An event counts once its line, newline included, is on the disk. A crash can only tear the last line; such
a rest is ignored by readers and cut off before the next append. Damage anywhere else is refused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from activeph.errors import InputError
from activeph.store.durable import sync_directory


class Journal:
    """A file of events."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end: int | None = None  # bytes known to be whole lines, once this object has written
        self._events: list[dict[str, Any]] = []  # those read or written last
        self._stamp: tuple[int, int] | None = None  # size and time of the file that holds them

    def append(self, event: dict[str, Any]) -> None:
        """Add one event and return when it is on the disk. Raises OSError where it cannot; the journal stays whole."""
        line = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        data = line.encode() + b"\n"
        self.events()
        if self._end is None:
            self._end = self._scan()[1]
            self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("r+b" if not is_new else "wb", buffering=0) as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            try:
                _write_all(stream.fileno(), data)
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(self._end)
                raise
        if is_new:
            sync_directory(self.path.parent)
        self._end += len(data)
        self._events.append(json.loads(line))
        self._stamp = self._stamp_now()

    def events(self) -> list[dict[str, Any]]:
        """Return all events, oldest first; empty where there is no journal. Raises InputError where it is damaged.

        The file is read again only where it has changed otherwise than by this object.
        """
        stamp = self._stamp_now()
        if stamp is None or stamp != self._stamp:
            self._events, self._stamp = self._scan()[0], stamp
        return list(self._events)

    def _stamp_now(self) -> tuple[int, int] | None:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns

    def _scan(self) -> tuple[list[dict[str, Any]], int]:
        """Return the events and the number of bytes that hold them."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        lines = data.split(b"\n")
        lines.pop()  # what follows the last newline: nothing, or a torn line
        events: list[dict[str, Any]] = []
        end = 0
        for number, line in enumerate(lines, start=1):
            event = _parse(line)
            if event is None:
                if number == len(lines):
                    break
                raise InputError(
                    f"{self.path}: line {number} of the journal must be one JSON object but got "
                    f"{line[:60].decode(errors='replace')!r}; the file was damaged or edited: restore it from a copy."
                )
            events.append(event)
            end += len(line) + 1
        return events, end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes; the system may take fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
