"""One worker per calculation, also where campaigns on several hosts share a ledger.

A claim is a symbolic link ``<key>@<token>`` whose target names the holder: made whole by one operation, on network file
systems too, and without data that would have to be flushed. Names are never used twice, so that removing a dead claim
cannot remove a living one. Who makes a claim lists the others afterwards: of two made at once, at least one sees the
other, and the smaller name stays.

A claim of a dead process of this host counts no more, as with :mod:`activeph.store.lock`. Of another host nothing is
known but that the living touch their claims: one that was not touched for :data:`LOST_SECONDS`, by the clock of the
file system alone, is given up. Should its holder live after all, the same label is calculated twice and recorded once.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from activeph.store.lock import identity, is_stale

BEAT_SECONDS = 15.0
LOST_SECONDS = 180.0  # attributes of a network file system may be a minute old
UNSUPPORTED = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
"""No symbolic links here: nothing is claimed, and the first to record a label wins."""
SETTLE_TRIES = 25
SETTLE_SECONDS = 0.02


class Claim(NamedTuple):
    """A claim that counts."""

    name: str
    holder: dict[str, Any]  # host, pid, boot, started, since

    @property
    def key(self) -> str:
        """Ledger key of the calculation."""
        return self.name.partition("@")[0]

    @property
    def who(self) -> str:
        """The holder in words."""
        return f"process {self.holder.get('pid', '?')} on host {self.holder.get('host', '?')}"


class Claims:
    """The claims in a directory, which is made with the first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def hold(self, key: str) -> Iterator[Claim | None]:
        """Claim a calculation while the context lasts: give None where it is ours, else the claim of another worker.

        Raises OSError where the file system refuses.
        """
        name = f"{key}@{uuid.uuid4().hex[:12]}"
        path = self.directory / name
        if not self._make(path):
            yield None
            return
        other: Claim | None = None
        try:
            other = self._other(name)
            if other is None:
                with beating(path):
                    yield None
        finally:
            with suppress(OSError):  # it dies with this process
                path.unlink()
        if other is not None:
            yield other

    def living(self) -> dict[str, Claim]:
        """Return the claims that count, by key; those found dead are removed. Raises OSError as :meth:`hold`."""
        return {claim.key: claim for claim in self._all() or ()}

    def workers(self) -> set[tuple[str, str]] | None:
        """Return key and worker (``host.pid``) of the claims that count; None where nobody claims.

        Those found dead are removed. Raises OSError as :meth:`hold`.
        """
        claims = self._all()
        return None if claims is None else {(claim.key, _worker(claim.holder)) for claim in claims}

    def _all(self) -> list[Claim] | None:
        probe = self.directory / f"@{uuid.uuid4().hex[:12]}"
        if not self.directory.is_dir() or not self._make(probe):
            return None
        try:
            return self._living(probe.name)
        finally:
            with suppress(OSError):
                probe.unlink()

    def _make(self, path: Path) -> bool:
        """Make a claim; False where the file system knows no symbolic links."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            path.symlink_to(_myself(os.getpid()))
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return False
            raise
        return True

    def _other(self, name: str) -> Claim | None:
        """Return another's claim on the same calculation, after those made at once have given way to the smallest."""
        others: list[Claim] = []
        for _ in range(SETTLE_TRIES):
            others = self._living(name)
            if not others or min(others).name < name:
                break
            time.sleep(SETTLE_SECONDS)
        return min(others) if others else None

    def _living(self, mine: str) -> list[Claim]:
        """Return others' claims on the calculation of ``mine``, which is there; on any where ``mine`` is a probe."""
        now = os.lstat(self.directory / mine).st_mtime
        start = "" if mine.startswith("@") else mine.partition("@")[0] + "@"
        names = [name for name in os.listdir(self.directory) if name.startswith(start) and name != mine]
        found = (self._read(name, now) for name in names if not name.startswith("@"))
        return [claim for claim in found if claim is not None]

    def _read(self, name: str, now: float) -> Claim | None:
        """Return a claim, None where it is gone or its holder is; then it is removed."""
        path = self.directory / name
        try:
            holder = json.loads(os.readlink(path))
            if not is_stale(holder) and now - os.lstat(path).st_mtime < LOST_SECONDS:
                return Claim(name, holder)
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError):
            pass  # no claim of ours
        with suppress(OSError):
            path.unlink()
        return None


def _worker(holder: dict[str, Any]) -> str:
    return f"{holder.get('host')}.{holder.get('pid')}"


@functools.lru_cache(maxsize=1)
def _myself(pid: int) -> str:
    """Return what the claims of this process say; made once, since every label is claimed."""
    return json.dumps(identity(), separators=(",", ":"))


class Heart:
    """One thread that touches claims and working directories of this process again and again, so that other hosts see
    that it lives, and whoever finds it dead until when it did.
    """

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self, path: Path) -> Iterator[None]:
        """Touch a path while the context lasts."""
        self._paths.add(path)
        if self._thread is None or not self._thread.is_alive():  # a fork has no threads
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self._paths.discard(path)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            for path in self._paths.copy():
                with suppress(OSError):  # it has just ended
                    os.utime(path, follow_symlinks=False)


_heart = Heart()


def beating(path: Path) -> AbstractContextManager[None]:
    """Touch a path of this process every :data:`BEAT_SECONDS` while the context lasts."""
    return _heart.beating(path)
