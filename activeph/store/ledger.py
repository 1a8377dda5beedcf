"""Every label and failure, one directory each: nothing is paid for twice.

``<root>/3f/3f9c…/`` holds ``label.json`` (or ``failure.json``), ``arrays.npz`` and what the code left. It is written
beside under a hidden name, flushed, and renamed: a directory that exists is whole. Any number of processes and hosts
may write at once: who begins a calculation claims it (:mod:`activeph.store.claims`), the first to rename wins. There is
no index and nothing to open.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from activeph.identity import configuration_key, label_key
from activeph.records import Configuration, Failure, Label
from activeph.store.claims import Claims, beating
from activeph.store.durable import sync_directory, sync_tree
from activeph.store.records_io import FAILURE_NAME, LABEL_NAME, read_outcome, write_outcome
from activeph.store.work import Work, account_of, work_name

__all__ = ["Ledger", "configuration_key", "label_key"]

CALCULATIONS = "calculations"  # directory of logs, one file per writing process
CLAIMS = "claims"  # directory of who calculates what


UNFINISHED = frozenset({"retried", "lost"})
"""Outcomes of attempts that left no record: one that was made again, one whose process died."""


class Ledger:
    """The labels below a directory, and the account of one campaign that has them calculated.

    ``log`` is where attempts are noted (default: below ``root``; a campaign that shares its labels has a place of its
    own), ``cores`` what one calculation occupies, ``core_hours`` what all of the campaign's may cost (None: no limit).
    """

    def __init__(self, root: Path, log: Path | None = None, cores: int = 1, core_hours: float | None = None) -> None:
        self.root = Path(root).absolute()
        self.log = self.root / CALCULATIONS if log is None else log
        self.claims = Claims(self.root / CLAIMS)
        self.account = account_of(self.log)
        self.cores = cores
        self.core_hours = core_hours

    def directory(self, key: str) -> Path:
        """Return where a key's record is, or would be."""
        return self.root / key[:2] / key

    def get(self, key: str) -> Label | Failure | None:
        """Return what is known of a calculation, None for nothing. Raises InputError where the record is damaged."""
        return read_outcome(self.directory(key))

    def get_late(self, key: str) -> Label | Failure | None:
        """Return what another host may have recorded just now, where :meth:`get` still said that there is nothing.

        Network file systems remember for up to a minute that a name was not there; they look again where this host has
        just made another name beside it.
        """
        with suppress(OSError), self.workdir(key):
            pass
        return self.get(key)

    def state(self, key: str) -> str | None:
        """Return ``label``, ``failure`` or None without reading the record."""
        directory = self.directory(key)
        if (directory / LABEL_NAME).exists():
            return "label"
        return "failure" if (directory / FAILURE_NAME).exists() else None

    def keys(self) -> Iterator[str]:
        """Yield the keys of all records, labels and failures, sorted."""
        for shelf in _names(self.root):
            if len(shelf) == 2:
                yield from (name for name in _names(self.root / shelf) if not name.startswith("."))

    def states(self) -> Iterator[tuple[str, str]]:
        """Yield key and state (``label`` or ``failure``) of all records, sorted; no record is read."""
        root = str(self.root)
        for key in self.keys():
            directory = f"{root}/{key[:2]}/{key}"  # plain strings: pathlib would double the time of 100 000 records
            if os.path.exists(f"{directory}/{LABEL_NAME}"):
                yield key, "label"
            elif os.path.exists(f"{directory}/{FAILURE_NAME}"):
                yield key, "failure"

    @contextmanager
    def workdir(self, key: str) -> Iterator[Path]:
        """Give a fresh directory beside the record; whatever is not put into the ledger is removed at the end.

        Its name tells whom its time is charged to, and it is touched as long as this process lives.
        """
        final = self.directory(key)
        path = final.with_name(work_name(key, self.account))
        path.mkdir(parents=True)
        try:
            with beating(path):
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def put(
        self,
        key: str,
        configuration: Configuration,
        outcome: Label | Failure,
        workdir: Path | None = None,
        replace: bool = False,
    ) -> bool:
        """Make a record true. Return False where there is one already (it stays, unless ``replace``; but a label takes
        the place of a failure, which is of another worker that gave up meanwhile).

        ``workdir`` is a directory of :meth:`workdir` and becomes the record; its files are kept. Raises OSError where
        the file system refuses; then nothing is recorded.
        """
        if workdir is None:
            with self.workdir(key) as fresh:
                return self.put(key, configuration, outcome, fresh, replace)
        write_outcome(workdir, key, configuration, outcome)
        sync_tree(workdir)
        final = self.directory(key)
        old = workdir.with_name(f"{workdir.name}-old")
        if (replace or (isinstance(outcome, Label) and self.state(key) == "failure")) and final.exists():
            os.rename(final, old)
        try:
            os.rename(workdir, final)  # refused where the directory exists, as records are never empty
        except OSError:
            if old.exists():
                os.rename(old, final)
            if self.state(key) is None:
                raise
            return False
        shutil.rmtree(old, ignore_errors=True)
        sync_directory(final.parent)
        return True

    def log_attempt(self, key: str, outcome: str, seconds: float, sort: str = "", work: str = "") -> None:
        """Note what became of an attempt, in a file that only this process writes.

        ``outcome`` is ``label``, the kind of a failure, ``duplicate`` (another was faster), or one of
        :data:`UNFINISHED`; ``sort`` is what calculations of like cost share. ``work`` is the name of the attempt's
        working directory: what is noted last of it counts, so that a label can be noted before it is made true.
        """
        path = self.log / f"{socket.gethostname()}-{os.getpid()}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"key": key, "outcome": outcome, "seconds": round(seconds, 3), "cores": self.cores, "sort": sort}
        facts |= {"work": work} if work else {}
        with path.open("ab") as stream:
            stream.write(f"{json.dumps(facts | {'end': round(time.time(), 3)})}\n".encode())

    def attempts(self) -> list[dict[str, Any]]:
        """Return every attempt (key, outcome, seconds, cores, sort, end), oldest first; torn lines are skipped."""
        found = []
        for name in _names(self.log):
            for line in (self.log / name).read_text(errors="replace").splitlines():
                try:
                    found.append({"cores": 1, "sort": "", **json.loads(line)})
                except (ValueError, TypeError):
                    continue
        found.sort(key=_end)
        latest = {attempt.get("work", number): attempt for number, attempt in enumerate(found)}
        return _settled(sorted(latest.values(), key=_end))

    def calculations(self) -> list[dict[str, Any]]:
        """Return every attempt that was finished: a label, a failure, or the same as somebody else's."""
        return [attempt for attempt in self.attempts() if attempt["outcome"] not in UNFINISHED]

    def running(self, own: bool = False) -> list[str]:
        """Return the keys that are being calculated now, as far as this host can tell; sorted.

        ``own`` leaves out what campaigns that share the labels are at.
        """
        living = [work for work in self._work() if not work.is_dead]
        return sorted({work.key for work in living if not own or work.account in ("", self.account)})

    def places(self, prefix: str) -> dict[str, Path]:
        """Return key and directory of every record, and of every calculation under way, whose key begins so."""
        found = {key: self.directory(key) for key in self.keys() if key.startswith(prefix)}
        for work in self._work():
            if work.key.startswith(prefix):
                found.setdefault(work.key, work.path)
        return found

    def sweep(self) -> int:
        """Remove what dead processes and lost hosts left half done of this account; return how many directories.

        The time they took is noted. What others left is theirs to remove and to pay: see :meth:`abandoned`.
        """
        mine = [work for work in self._work() if work.account in ("", self.account)]
        claimed = None
        with suppress(OSError):
            claimed = self.claims.workers()  # after the directories: who has one holds a claim
        dead = [work for work in mine if work.is_dead or work.is_lost(claimed)]
        for work in dead:
            if work.path.exists():
                seconds = work.seconds()
                shutil.rmtree(work.path, ignore_errors=True)
                self.log_attempt(work.key, "lost", seconds, work=work.path.name)
        return len(dead)

    def abandoned(self) -> list[Work]:
        """Return what dead processes of this host, and those of others that fell silent, left half done of any account.

        Changes nothing.
        """
        return [work for work in self._work() if work.is_dead or work.is_silent]

    def leavings(self, key: str) -> list[Path]:
        """Return the directories of attempts at a calculation that are under way or were broken off."""
        shelf = self.directory(key).parent
        return [shelf / name for name in _names(shelf) if name.startswith(f".{key}@")]

    def _work(self) -> Iterator[Work]:
        for shelf in _names(self.root):
            if len(shelf) == 2:
                for name in _names(self.root / shelf):
                    if name.startswith("."):
                        yield Work.of(self.root / shelf / name)


def ledger_of(run: Path, cores: int = 1, core_hours: float | None = None) -> Ledger:
    """Return the ledger of a run directory; where its labels are shared with others, it keeps its own account."""
    labels = run / "labels"
    return Ledger(labels, run / CALCULATIONS if labels.is_symlink() else None, cores, core_hours)


def _settled(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return attempts, oldest first, with every label but the last of a key as lost.

    Whoever made a later one found no record: a full disk or a kill came between the note and the record, and what
    had happened could not be noted any more.
    """
    last = {attempt["key"]: number for number, attempt in enumerate(attempts) if attempt["outcome"] == "label"}
    return [
        attempt | {"outcome": "lost"} if attempt["outcome"] == "label" and last[attempt["key"]] != number else attempt
        for number, attempt in enumerate(attempts)
    ]


def _end(attempt: dict[str, Any]) -> float:
    return float(attempt["end"])


def _names(directory: Path) -> list[str]:
    """Return the names in a directory, sorted; none where there is no directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
