"""One calculation, as a worker makes it: claimed, checked, and recorded whether or not the driver is still there."""

from __future__ import annotations

import errno
import socket
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activeph.errors import InputError, LabelFailed, Paused
from activeph.label.base import Labeler
from activeph.label.sanity import check_distances, check_label
from activeph.records import Configuration, Failure, Label
from activeph.store.durable import NO_SPACE
from activeph.store.ledger import Ledger

RETRIED = frozenset({"crashed", "timeout"})
"""Failures that another attempt may cure; the others would only cost the same again."""
UNWRITABLE = NO_SPACE | {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.EEXIST}
"""The same where the ledger itself is written, and not by a code, whose own permissions may be at fault."""


@dataclass(frozen=True)
class LabelTask:
    """One calculation, as it travels to a worker."""

    labeler: Labeler
    configuration: Configuration
    key: str
    ledger: Ledger
    is_last: bool = False  # no further attempt: record whatever comes
    sort: str = ""  # calculations of one sort cost about the same


@dataclass(frozen=True)
class Taken:
    """The answer of a worker where another one is at the same calculation."""

    who: str


def unwritable(ledger: Ledger, error: OSError) -> str:
    """Return why a campaign pauses whose ledger cannot be written."""
    if ledger.root.is_symlink() and not ledger.root.exists():
        return (
            f"{ledger.root} must lead to the labels that are shared but got nothing at {ledger.root.readlink()}; "
            "restore or mount it, then run again."
        )
    return f"labels cannot be written to {ledger.root}: {error}; mend that, then run again."


LONGEST = 4000  # characters of a message; all that a code said is in its files


def readable(message: str) -> str:
    """Return what a code said without what would confuse a terminal."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in message[:LONGEST]
    )


def calculate(task: LabelTask) -> Taken | str | None:
    """Make one calculation and record it: what a worker does.

    Return None, why the campaign must pause, or who is at it. A failure that another attempt may cure is raised instead
    of recorded, unless this is the last attempt.
    """
    ledger = task.ledger
    if ledger.state(task.key) is not None:
        return None  # another arm, repeat or campaign was faster
    try:
        with ledger.claims.hold(task.key) as other:
            if other is not None:
                return Taken(other.who)
            _calculate(task)
    except OSError as error:
        if error.errno in UNWRITABLE:
            return unwritable(ledger, error)
        raise
    except (Paused, InputError) as error:  # the user's to mend: no calculation has failed
        return str(error)
    return None


def _calculate(task: LabelTask) -> None:
    """Make one calculation that is claimed."""
    ledger, start = task.ledger, time.perf_counter()
    work = ""

    def note(outcome: str) -> None:
        ledger.log_attempt(task.key, outcome, time.perf_counter() - start, task.sort, work)

    try:
        with ledger.workdir(task.key) as workdir:
            if ledger.state(task.key) is not None:  # asked where the file system has just been seen to be up to date
                return
            work = workdir.name
            outcome = _outcome(task, workdir)
            try:
                note("label" if isinstance(outcome, Label) else outcome.kind)  # first: killed between, no cost is lost
            finally:
                is_new = ledger.put(task.key, task.configuration, outcome, workdir)
            if not is_new:
                note("duplicate")
    except LabelFailed:
        note("retried")
        raise
    except (Paused, InputError):  # nothing was calculated
        raise
    except BaseException:  # interrupted, or a disk is full: the time is spent all the same
        with suppress(OSError):
            note("lost")
        raise


def _outcome(task: LabelTask, workdir: Path) -> Label | Failure:
    start = time.perf_counter()

    def failure(kind: str, message: str, **facts: Any) -> Failure:
        facts |= {"wall_time": time.perf_counter() - start, "host": socket.gethostname()}
        return Failure(kind, readable(message), {"fingerprint": task.labeler.fingerprint, **facts})

    try:
        check_distances(task.configuration)
        label = task.labeler.label(task.configuration, workdir)
        check_label(label)
        return label
    except LabelFailed as error:
        if error.kind in RETRIED and not task.is_last:
            raise
        return failure(error.kind, error.message)
    except (Paused, InputError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        message = f"{type(error).__name__}: {error}"
        if not task.is_last:
            raise LabelFailed("crashed", message) from error
        return failure("crashed", message, traceback=traceback.format_exc())
