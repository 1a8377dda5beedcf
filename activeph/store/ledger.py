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
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from activeph.identity import configuration_key, label_key
from activeph.records import Configuration, Failure, Label
from activeph.store.claims import LOST_SECONDS, Claims
from activeph.store.durable import sync_directory, sync_tree
from activeph.store.process import is_running
from activeph.store.records_io import FAILURE_NAME, LABEL_NAME, read_outcome, write_outcome

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
        """Give a fresh directory beside the record; whatever is not put into the ledger is removed at the end."""
        final = self.directory(key)
        owner = f"{socket.gethostname()}.{os.getpid()}"
        path = final.with_name(f".{key}@{owner}@{time.time():.0f}-{uuid.uuid4().hex[:8]}")
        path.mkdir(parents=True)
        try:
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

    def log_attempt(self, key: str, outcome: str, seconds: float, sort: str = "") -> None:
        """Note what became of an attempt, in a file that only this process writes.

        ``outcome`` is ``label``, the kind of a failure, ``duplicate`` (another was faster), or one of
        :data:`UNFINISHED`; ``sort`` is what calculations of like cost share.
        """
        path = self.log / f"{socket.gethostname()}-{os.getpid()}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"key": key, "outcome": outcome, "seconds": round(seconds, 3), "cores": self.cores, "sort": sort}
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
        return sorted(found, key=lambda attempt: float(attempt["end"]))

    def calculations(self) -> list[dict[str, Any]]:
        """Return every attempt that was finished: a label, a failure, or the same as somebody else's."""
        return [attempt for attempt in self.attempts() if attempt["outcome"] not in UNFINISHED]

    def running(self) -> list[str]:
        """Return the keys that are being calculated now, as far as this host can tell; sorted."""
        return sorted({name[1:].partition("@")[0] for _, name in self._work() if not _is_dead(name)})

    def places(self, prefix: str) -> dict[str, Path]:
        """Return key and directory of every record, and of every calculation under way, whose key begins so."""
        found = {key: self.directory(key) for key in self.keys() if key.startswith(prefix)}
        for path, name in self._work():
            key = name[1:].partition("@")[0]
            if key.startswith(prefix):
                found.setdefault(key, path / name)
        return found

    def sweep(self) -> int:
        """Remove what dead processes left half done, and what lost hosts did; return how many directories.

        The time they took is noted: until their last sign of life, which is the youngest file or the claim.
        """
        work = [path / name for path, name in self._work()]
        seen = {path: self.claims.last_seen(*_owner(path.name)) for path in work}
        claimed = None
        with suppress(OSError):
            claimed = self.claims.workers()  # after the directories: who has one holds a claim
        dead = [path for path in work if _is_dead(path.name) or _is_lost(path.name, claimed)]
        for path in filter(Path.exists, dead):
            seconds = _time_spent(path, seen[path])
            shutil.rmtree(path, ignore_errors=True)
            self.log_attempt(_owner(path.name)[0], "lost", seconds)
        return len(dead)

    def leavings(self, key: str) -> list[Path]:
        """Return the directories of attempts at a calculation that are under way or were broken off."""
        shelf = self.directory(key).parent
        return [shelf / name for name in _names(shelf) if name.startswith(f".{key}@")]

    def _work(self) -> Iterator[tuple[Path, str]]:
        for shelf in _names(self.root):
            if len(shelf) == 2:
                for name in _names(self.root / shelf):
                    if name.startswith("."):
                        yield self.root / shelf, name


def ledger_of(run: Path, cores: int = 1, core_hours: float | None = None) -> Ledger:
    """Return the ledger of a run directory; where its labels are shared with others, it keeps its own account."""
    labels = run / "labels"
    return Ledger(labels, run / CALCULATIONS if labels.is_symlink() else None, cores, core_hours)


def _names(directory: Path) -> list[str]:
    """Return the names in a directory, sorted; none where there is no directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _time_spent(path: Path, last_seen: float) -> float:
    """Return the seconds from the beginning that the name of a working directory tells to its youngest file, or to when
    its owner was last seen.
    """
    begun = _begun(path.name)
    times = [last_seen]
    with suppress(OSError):  # another driver sweeps it at the same time
        times.append(path.stat().st_mtime)
        times.extend(each.stat().st_mtime for each in path.rglob("*") if not each.is_symlink())
    return 0.0 if begun is None else max(0.0, max(times) - begun)


def _owner(name: str) -> tuple[str, str]:
    """Return the key and the owner (``host.pid``, empty if there is none) that a working directory is named by."""
    parts = name[1:].split("@")
    return parts[0], parts[1] if len(parts) > 2 else ""


def _begun(name: str) -> float | None:
    """Return when a working directory was made, as its name tells."""
    begun = name.rpartition("@")[2].partition("-")[0]
    return float(begun) if begun.isdigit() else None


def _is_lost(name: str, claimed: Collection[tuple[str, str]] | None) -> bool:
    """Return whether a working directory of another host has an owner that has not been seen for long.

    ``claimed`` are the claims that count; where nobody claims, nothing is known of other hosts.
    """
    key, owner = _owner(name)
    begun = _begun(name)
    if claimed is None or begun is None or owner.rpartition(".")[0] in ("", socket.gethostname()):
        return False
    return (key, owner) not in claimed and time.time() - begun > LOST_SECONDS


def _is_dead(name: str) -> bool:
    """Return whether the owner in the name of a working directory is a dead process of this host."""
    host, _, pid = _owner(name)[1].rpartition(".")
    return host == socket.gethostname() and pid.isdigit() and not is_running(int(pid))
