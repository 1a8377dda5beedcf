"""What the system knows of a process: whether it lives, and what tells it from another of the same number."""

from __future__ import annotations

import os
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process of this host lives. A zombie has a number, but nobody is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    state = _state(pid)
    return state is None or state[0] not in "ZX"


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None where that is not known or it is dead already."""
    state = _state(pid)
    return None if state is None or state[0] in "ZX" else state[19]


def boot() -> str | None:
    """Return the kernel's name for the time since it was started; None where there is none (not Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _state(pid: int) -> list[str] | None:
    """Return field 3 of proc(5) and all after it; None where there is no such file (not Linux)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name before it may hold blanks
