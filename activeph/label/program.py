"""Running an external code: output to a file, a time limit, and no life of its own after the worker's."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from re import Pattern

from activeph.errors import InputError, LabelFailed

PR_SET_PDEATHSIG = 1  # prctl(2)
TAIL_BYTES = 2000


def run_program(
    command: Sequence[str],
    directory: Path,
    log_name: str,
    *,
    stdin: Path | None = None,
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
    without: Pattern[str] | None = None,
    accept: Collection[int] = (0,),
) -> int:
    """Run a command in a directory, standard output and errors into ``log_name`` there; return its exit status.

    ``environment`` is added to this process's, less the variables whose names ``without`` matches at their beginning.
    Raises LabelFailed: ``timeout`` after that many seconds, ``crashed`` with the end of the log where the exit status
    is not one of ``accept`` or a signal ended it. The program and its children are ended with the worker.
    """
    log = directory / log_name
    inherited = {name: value for name, value in os.environ.items() if without is None or not without.match(name)}
    with log.open("ab") as stream, open(stdin or os.devnull, "rb") as source:
        process = subprocess.Popen(
            list(command),
            cwd=directory,
            stdin=source,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**inherited, **(environment or {})},
            start_new_session=True,
            preexec_fn=_death_signal(),
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabelFailed("timeout", f"{command[0]} was stopped after {timeout:g} s") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the program's own children too
            process.wait()
    if status not in accept:
        ending = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise LabelFailed("crashed", f"{command[0]} ended with {ending}; its last lines: {tail(log)}")
    return status


def tail(path: Path) -> str:
    """Return the end of a text file."""
    data = path.read_bytes()[-TAIL_BYTES:]
    return data.decode(errors="replace").strip()


@functools.cache
def program_version(program: str, arguments: tuple[str, ...], pattern: str, code: str) -> str:
    """Return the version that a program prints, by a pattern with one group. Raises InputError where it prints none.

    It runs in a directory of its own: some codes leave files wherever they are started.
    """
    with tempfile.TemporaryDirectory(prefix="activeph-version-") as folder:
        try:
            started = subprocess.run(
                [program, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=30,
                check=False,
            )
            text = started.stdout.decode(errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            text = str(error)
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise InputError(
            f"label.command must start {code} but got {program!r}, which answered {text[:80]!r}; correct it."
        )
    return found.group(1)


def require_program(name: str, key: str, package: str) -> str:
    """Return the full path of a program. Raises InputError naming the campaign key and what to install."""
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{key} must name an installed program but got {name!r}; install {package} or correct {key}.")
    return found


def _death_signal() -> Callable[[], None] | None:
    """Return what a new process calls to be killed when its parent dies; None where the system has no such signal."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask
