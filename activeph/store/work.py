"""Working directories of calculations under way, whose names tell who is at what, since when, and on whose account."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from activeph.store.claims import LOST_SECONDS
from activeph.store.process import is_running


class Work(NamedTuple):
    """A working directory, as its name tells: ``.<key>@<host>.<pid>@<account>@<seconds since 1970>-<random>``."""

    path: Path
    key: str
    owner: str  # host.pid of who made it, empty where the name tells none
    account: str  # what its time is charged to; empty in ledgers of earlier versions
    begun: float | None

    @classmethod
    def of(cls, path: Path) -> Work:
        """Read a name."""
        parts = path.name[1:].split("@")
        begun = parts[-1].partition("-")[0]
        owner, account = parts[1] if len(parts) > 2 else "", parts[2] if len(parts) > 3 else ""
        return cls(path, parts[0], owner, account, float(begun) if begun.isdigit() else None)

    @property
    def is_dead(self) -> bool:
        """Whether the owner is a dead process of this host."""
        host, _, pid = self.owner.rpartition(".")
        return host == socket.gethostname() and pid.isdigit() and not is_running(int(pid))

    @property
    def is_silent(self) -> bool:
        """Whether the owner is not of this host and has not touched it for long, by this host's clock."""
        if self.owner.rpartition(".")[0] in ("", socket.gethostname()):
            return False
        with suppress(OSError):
            return time.time() - self.path.stat().st_mtime > LOST_SECONDS
        return False

    def is_lost(self, claimed: Collection[tuple[str, str]] | None) -> bool:
        """Return whether the owner is of another host and has not been seen for long.

        ``claimed`` are the claims that count; where nobody claims, nothing is known of other hosts.
        """
        if claimed is None or self.begun is None or self.owner.rpartition(".")[0] in ("", socket.gethostname()):
            return False
        return (self.key, self.owner) not in claimed and time.time() - self.begun > LOST_SECONDS

    def seconds(self) -> float:
        """Return the time from its beginning to the last sign of life: its own time, which the living touch, or that of
        its youngest file.
        """
        times = [0.0]
        with suppress(OSError):  # another driver sweeps it at the same time
            times.append(self.path.stat().st_mtime)
            times.extend(each.stat().st_mtime for each in self.path.rglob("*") if not each.is_symlink())
        return 0.0 if self.begun is None else max(0.0, max(times) - self.begun)


def work_name(key: str, account: str) -> str:
    """Return a new name for a working directory of this process."""
    owner = f"{socket.gethostname()}.{os.getpid()}"
    return f".{key}@{owner}@{account}@{time.time():.0f}-{uuid.uuid4().hex[:8]}"


def account_of(log: Path) -> str:
    """Return the name of an account in working directories: its campaign in words, and a hash of where it lies."""
    place = log.resolve()
    word = re.sub(r"[^A-Za-z0-9._-]", "_", place.parent.name)[:40]
    return f"{word}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"
