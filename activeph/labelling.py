"""From configurations to labels through the ledger: what is known is read, what is missing is calculated once.

A worker writes its result into the ledger itself, so it counts whether or not the driver is still there.
"""

from __future__ import annotations

import errno
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from activeph.errors import LabelFailed, Paused
from activeph.execute.base import Workers
from activeph.identity import aligned, label_key
from activeph.label.base import Labeler
from activeph.label.sanity import check_distances, check_label
from activeph.records import Configuration, Failed, Failure, Label
from activeph.store.ledger import Ledger

RETRIED = frozenset({"crashed", "timeout"})
"""Failures that another attempt may cure; the others would only cost the same again."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Reasons of the file system that would fail every label: the campaign pauses instead of burning its budget."""
UNWRITABLE = NO_SPACE | {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTDIR}
"""The same where the ledger itself is written, and not by a code, whose own permissions may be at fault."""


@dataclass(frozen=True)
class Obtained:
    """One label or failure that :func:`obtain` has come by."""

    key: str
    outcome: Label | Failure
    is_new: bool  # calculated just now, not read from the ledger


@dataclass(frozen=True)
class LabelTask:
    """One calculation, as it travels to a worker."""

    labeler: Labeler
    configuration: Configuration
    key: str
    ledger: Path
    is_last: bool = False  # no further attempt: record whatever comes


def obtain(
    labeler: Labeler,
    configurations: Sequence[Configuration],
    ledger: Ledger,
    workers: Workers,
    on_done: Callable[[Obtained], None] | None = None,
) -> dict[str, Label | Failure]:
    """Return label or failure of every configuration by ledger key; like configurations share one.

    Labels come aligned with the first configuration that has their key. Raises Paused at once where most calculations
    fail (:class:`Losses`), and after all tasks have had their turn where the ledger cannot be written or results of
    another site are awaited.
    """
    fingerprint = labeler.fingerprint
    wanted: dict[str, Configuration] = {}
    for configuration in configurations:
        wanted.setdefault(label_key(configuration, fingerprint), configuration)
    found: dict[str, Label | Failure] = {}

    def note(key: str, is_new: bool = True) -> Label | Failure | None:
        outcome = ledger.get(key)
        if outcome is None:
            return None
        found[key] = aligned(outcome, wanted[key]) if isinstance(outcome, Label) else outcome
        if on_done is not None:
            on_done(Obtained(key, found[key], is_new))
        return outcome

    missing = [key for key in wanted if note(key, is_new=False) is None]
    tasks = [LabelTask(labeler, wanted[key], key, ledger.root) for key in missing]
    again = _submit(tasks, workers, ledger, note)
    _submit([replace(task, is_last=True) for task in again], workers, ledger, note)
    return {key: found[key] for key in wanted}


def _submit(
    tasks: list[LabelTask], workers: Workers, ledger: Ledger, note: Callable[[str], Label | Failure | None]
) -> list[LabelTask]:
    """Run the tasks; return those that deserve another attempt."""
    again = []
    pause: str | None = None
    losses = Losses()
    for outcome in workers.map(calculate, tasks):
        task = tasks[outcome.index]
        if isinstance(outcome, Failed):
            if not task.is_last:
                again.append(task)
                losses.count(outcome.error)
                continue
            failure = Failure("crashed", outcome.error, {"traceback": outcome.traceback})
            _record_loss(ledger, task, failure)
        elif outcome.value is not None:
            pause = str(outcome.value)
            continue
        known = note(task.key)
        losses.count(f"{known.kind}: {known.message}" if isinstance(known, Failure) else None)
    if pause is not None:
        raise Paused(pause)
    return again


class Losses:
    """Counts failures of one submission; where most fail, something is wrong that more labels do not mend."""

    FEWEST = 8  # failures before anything is concluded

    def __init__(self) -> None:
        self._finished = 0
        self._reasons: list[str] = []

    def count(self, reason: str | None) -> None:
        """Note one finished calculation, ``reason`` None where it gave a label. Raises Paused where most failed."""
        self._finished += 1
        if reason is None:
            return
        self._reasons.append(reason)
        n_failed = len(self._reasons)
        if n_failed >= self.FEWEST and 2 * n_failed > self._finished:
            raise Paused(
                f"{n_failed} of {self._finished} calculations failed, the last with '{reason[:300]}'; "
                "mend that, or run again to go on without them."
            )


def _record_loss(ledger: Ledger, task: LabelTask, failure: Failure) -> None:
    """Record the failure of a task whose worker died; the worker's own result stands if it came that far."""
    try:
        ledger.put(task.key, task.configuration, failure)
    except OSError as error:
        raise Paused(f"labels cannot be written to {ledger.root}: {error}; mend that, then run again.") from error


def calculate(task: LabelTask) -> str | None:
    """Make one calculation and record it: what a worker does. Return None, or why the campaign must pause.

    A failure that another attempt may cure is raised instead of recorded, unless this is the last attempt.
    """
    ledger = Ledger(task.ledger)
    if ledger.state(task.key) is not None:
        return None  # another arm, repeat or campaign was faster
    start = time.perf_counter()
    try:
        with ledger.workdir(task.key) as workdir:
            outcome = _outcome(task, workdir)
            is_new = ledger.put(task.key, task.configuration, outcome, workdir)
        kind = "label" if isinstance(outcome, Label) else outcome.kind
        ledger.log_calculation(task.key, kind if is_new else "duplicate", time.perf_counter() - start)
    except OSError as error:
        if error.errno in UNWRITABLE:
            return f"labels cannot be written to {ledger.root}: {error}; mend that, then run again."
        raise
    except Paused as error:
        return str(error)
    return None


def _outcome(task: LabelTask, workdir: Path) -> Label | Failure:
    start = time.perf_counter()

    def failure(kind: str, message: str, **facts: Any) -> Failure:
        facts |= {"wall_time": time.perf_counter() - start, "host": socket.gethostname()}
        return Failure(kind, message, {"fingerprint": task.labeler.fingerprint, **facts})

    try:
        check_distances(task.configuration)
        label = task.labeler.label(task.configuration, workdir)
        check_label(label)
        return label
    except LabelFailed as error:
        if error.kind in RETRIED and not task.is_last:
            raise
        return failure(error.kind, error.message)
    except Paused:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        message = f"{type(error).__name__}: {error}"
        if not task.is_last:
            raise LabelFailed("crashed", message) from error
        return failure("crashed", message, traceback=traceback.format_exc())
