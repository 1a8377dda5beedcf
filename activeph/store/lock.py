"""One driver per directory: a lock file that names its holder and survives ``kill -9`` of it.

Two things guard it: an advisory lock of the operating system, which dies with the process, and the holder's name in
the file, which other hosts can read where the file system knows no such locks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from activeph.errors import InputError
from activeph.store.process import boot, is_running, start_time

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class DirectoryLock:
    """Context manager that holds ``<directory>/lock``. Raises InputError naming host and process that hold it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lock"
        self._descriptor: int | None = None

    def __enter__(self) -> DirectoryLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(descriptor):
                raise self._refusal(_read(descriptor))
            holder = _read(descriptor)
            if holder and not is_stale(holder):
                raise self._refusal(holder)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(identity()).encode() + b"\n", 0)
            os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk or a lost mount must not hide what ended the campaign
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _refusal(self, holder: dict[str, Any]) -> InputError:
        who = f"process {holder.get('pid', '?')} on host {holder.get('host', '?')} since {holder.get('since', '?')}"
        return InputError(
            f"{self.path.parent} must have one driver but got a second: {who} holds it; "
            f"wait for it or stop it (if that host is gone for good, remove {self.path})."
        )


def holder(directory: Path) -> dict[str, Any] | None:
    """Return who holds a directory (host, pid, boot, started, since), or None. Never blocks, never writes."""
    try:
        found = _parse((directory / "lock").read_bytes())
    except OSError:
        return None
    return found if found and not is_stale(found) else None


def identity() -> dict[str, Any]:
    """Return what tells this process from every other, also after a reboot and after its number was given away."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": boot(),
        "started": start_time(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def is_stale(holder: dict[str, Any]) -> bool:
    """Return whether the holder is known to be dead. Of another host nothing is known."""
    if holder.get("host") != socket.gethostname():
        return False
    if holder.get("boot") != boot():
        return True
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return True
    if not is_running(pid):
        return True
    is_hidden = not os.path.exists(f"/proc/{pid}")  # some systems show nobody the processes of others
    return not is_hidden and holder.get("started") != start_time(pid)


def _lock(descriptor: int) -> bool:
    """Take the operating system's lock; True also where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in UNSUPPORTED
    return True


def _read(descriptor: int) -> dict[str, Any]:
    return _parse(os.pread(descriptor, 4096, 0)) or {}


def _parse(data: bytes) -> dict[str, Any] | None:
    """Return the holder; None for an empty file and for one torn by a crash while it was written."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
