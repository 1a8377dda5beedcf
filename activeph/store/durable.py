"""Writing that survives a crash: data reach the disk before a name says that they are there."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Reasons of the file system that would fail every step: a campaign pauses instead of burning its budget."""


def sync_directory(directory: Path) -> None:
    """Flush a directory, so that new names in it survive a power failure. File systems that cannot are tolerated."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Flush every file below a directory, and the directories themselves."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file():
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(parent))
