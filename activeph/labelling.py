"""From configurations to labels through the ledger: what is known is read, what is missing is calculated once.

A worker writes its result into the ledger itself (:mod:`activeph.calculation`), so it counts whether or not the driver
is still there. What a worker of another campaign is at is waited for.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate

from activeph.calculation import LabelTask, Taken, calculate, unwritable
from activeph.errors import BudgetSpent, Paused
from activeph.execute.base import Workers
from activeph.identity import aligned, label_key
from activeph.imports import adopt
from activeph.label.base import Labeler
from activeph.records import Configuration, Failed, Failure, Label
from activeph.store.ledger import UNFINISHED, Ledger

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Obtained:
    """One label or failure that :func:`obtain` has come by."""

    key: str
    outcome: Label | Failure
    is_new: bool  # calculated just now, not read from the ledger


def obtain(
    labeler: Labeler,
    configurations: Sequence[Configuration] | Mapping[str, Configuration],
    ledger: Ledger,
    workers: Workers,
    on_done: Callable[[Obtained], None] | None = None,
    losses: Losses | None = None,
) -> dict[str, Label | Failure]:
    """Return label or failure of every configuration by ledger key; like configurations share one.

    Labels come aligned with the first configuration that has their key. ``configurations`` may come by key, where keys
    are known already. ``losses`` counts failures over several calls.

    Raises:
        Paused: at once where most calculations fail (:class:`Losses`), and after all tasks have had their turn where
            the ledger cannot be written or results of another site are awaited.
        BudgetSpent: what is missing is not expected to fit into the ledger's core-hours.
    """
    fingerprint = labeler.fingerprint
    wanted = configurations if isinstance(configurations, Mapping) else _by_key(configurations, fingerprint)
    found: dict[str, Label | Failure] = {}

    def note(key: str, is_new: bool = True, is_done: bool = True) -> Label | Failure | None:
        outcome = ledger.get(key)
        if outcome is None and is_done:
            outcome = ledger.get_late(key)
        if outcome is None:
            return None
        found[key] = aligned(outcome, wanted[key]) if isinstance(outcome, Label) else outcome
        if on_done is not None:
            on_done(Obtained(key, found[key], is_new))
        return outcome

    adopt(ledger, fingerprint, wanted)
    missing = [key for key in wanted if note(key, is_new=False, is_done=False) is None]
    tasks = [LabelTask(labeler, wanted[key], key, ledger, sort=_sort(fingerprint, wanted[key])) for key in missing]
    losses = losses or Losses()
    elsewhere: list[LabelTask] = []
    while tasks or elsewhere:
        if not tasks:
            tasks, elsewhere = _wait(elsewhere, ledger, lambda key: note(key, is_new=False))
            if tasks:
                ledger.sweep()  # given up by the dead: what they spent counts before it is begun again
            continue
        n = _affordable(ledger, tasks)
        again, taken = _submit(tasks[:n], workers, ledger, note, losses)
        elsewhere += taken
        if again or any(task.is_last for task in tasks[:n]):
            ledger.sweep()  # what the dead have spent is in the account before anything else is begun
        tasks = [*(replace(task, is_last=True) for task in again), *tasks[n:]]
    return {key: found[key] for key in wanted}


def _by_key(configurations: Sequence[Configuration], fingerprint: str) -> dict[str, Configuration]:
    wanted: dict[str, Configuration] = {}
    for configuration in configurations:
        wanted.setdefault(label_key(configuration, fingerprint), configuration)
    return wanted


UNKNOWN_COST = 4
"""Calculations begun at once under a limit of core-hours while nothing is known of what one costs."""


def _sort(fingerprint: str, configuration: Configuration) -> str:
    """Return what calculations share that cost about the same: labeler and number of atoms."""
    return f"{fingerprint}-{len(configuration.numbers)}"


def _affordable(ledger: Ledger, tasks: Sequence[LabelTask]) -> int:
    """Return how many of the tasks may be begun, from the first: those that fit if each costs what nine of ten of its
    sort stayed below. Of sorts that nothing is known of a few are begun.

    Raises BudgetSpent where not one does.
    """
    if ledger.core_hours is None:
        return len(tasks)
    costs: dict[str, list[float]] = {}
    spent = 0.0
    for attempt in ledger.attempts():
        cost = attempt["seconds"] * attempt["cores"] / 3600
        spent += cost
        if attempt["outcome"] not in UNFINISHED:
            costs.setdefault(attempt["sort"], []).append(cost)
    usual = {sort: sorted(found)[math.ceil(0.9 * len(found)) - 1] for sort, found in costs.items()}
    left = ledger.core_hours - spent
    expected = [usual.get(task.sort, 0.0) for task in tasks]
    if left <= 0 or expected[0] > left:
        more = f", and a label takes about {expected[0]:.3g}" if left > 0 else ""
        raise BudgetSpent(
            f"{spent:.3g} of {ledger.core_hours:g} core-hours are spent{more}; "
            "raise budget.core_hours and run again to go on."
        )
    n_fitting = sum(total <= left for total in accumulate(expected))
    strange = [row for row, task in enumerate(tasks) if task.sort not in usual]
    return min(n_fitting, strange[UNKNOWN_COST] if len(strange) > UNKNOWN_COST else len(tasks))


def _submit(
    tasks: list[LabelTask],
    workers: Workers,
    ledger: Ledger,
    note: Callable[[str], Label | Failure | None],
    losses: Losses,
) -> tuple[list[LabelTask], list[LabelTask]]:
    """Run the tasks; return those that deserve another attempt, and those that others are calculating."""
    again, taken = [], []
    pause: str | None = None
    for outcome in workers.map(calculate, tasks):
        task = tasks[outcome.index]
        if isinstance(outcome, Failed):
            if not task.is_last:
                again.append(task)
                losses.count(task.key, outcome.error)
                continue
            failure = Failure("crashed", outcome.error, {"traceback": outcome.traceback})
            _record_loss(ledger, task, failure)
        elif isinstance(outcome.value, Taken):
            taken.append(task)
            continue
        elif outcome.value is not None:
            pause = str(outcome.value)
            continue
        known = note(task.key)
        if known is None:
            raise Paused(f"label {task.key} must be in the ledger but got no record; run again to calculate it anew.")
        losses.count(task.key, f"{known.kind}: {known.message}" if isinstance(known, Failure) else None)
    if pause is not None:
        raise Paused(pause)
    return again, taken


POLL_SECONDS = 1.0


def _wait(
    tasks: list[LabelTask], ledger: Ledger, note: Callable[[str], Label | Failure | None]
) -> tuple[list[LabelTask], list[LabelTask]]:
    """Wait for what others calculate; return the tasks that they gave up without a record, and those they still hold.

    Returns at the latest when they hold none any more. Raises Paused where the ledger cannot be written.
    """
    told = ""
    while True:
        try:
            claims = ledger.claims.living()  # before the records: who puts one does so before the claim ends
        except OSError as error:
            raise Paused(unwritable(ledger, error)) from error
        held = [task for task in tasks if task.key in claims and ledger.state(task.key) is None]
        keys = {task.key for task in held}
        free = [task for task in tasks if task.key not in keys and note(task.key) is None]
        if free or not held:
            return free, held
        who = claims[held[0].key].who
        if who != told:
            logger.warning("waiting for %s of another campaign, the first by %s", _counted(len(held)), who)
        told, tasks = who, held
        time.sleep(POLL_SECONDS)


def _counted(number: int) -> str:
    return "1 calculation" if number == 1 else f"{number} calculations"


class Losses:
    """Counts failures of one batch; where most fail, something is wrong that more labels do not mend."""

    FEWEST = 8  # failures before anything is concluded

    def __init__(self) -> None:
        self._finished = 0
        self._reasons: list[str] = []
        self._trusted: set[str] = set()

    def count(self, key: str, reason: str | None) -> None:
        """Note one finished calculation, ``reason`` None where it gave a label. Raises Paused where most failed."""
        self._finished += 1
        self._trusted.add(key)
        if reason is not None:
            self._note(reason)

    def doubt(self, key: str, reason: str) -> None:
        """Note that a label is not believed. Only those counted here weigh; others were known before.

        Raises Paused where most are no good.
        """
        if key in self._trusted:
            self._trusted.remove(key)
            self._note(reason)

    def _note(self, reason: str) -> None:
        self._reasons.append(reason)
        n_failed = len(self._reasons)
        if n_failed >= self.FEWEST and 2 * n_failed > self._finished:
            raise Paused(
                f"{n_failed} of {self._finished} calculations failed, the last with '{reason[:300]}'; "
                "mend that, or run again to have others in their place."
            )


def _record_loss(ledger: Ledger, task: LabelTask, failure: Failure) -> None:
    """Record the failure of a task whose worker died, with what it left; its own result stands if it came that far."""
    try:
        left = ledger.leavings(task.key)
        with ledger.workdir(task.key) as workdir:
            for folder in left:
                with suppress(shutil.Error):  # files come and go where the lost process is still running elsewhere
                    shutil.copytree(folder, workdir, dirs_exist_ok=True)
            ledger.put(task.key, task.configuration, failure, workdir)
    except OSError as error:
        raise Paused(unwritable(ledger, error)) from error
