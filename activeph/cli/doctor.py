"""``activeph doctor``: is this run directory whole, and if not, what helps?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from activeph.cli.rundirs import run_directory
from activeph.config.resume import versions
from activeph.errors import ActivephError
from activeph.rundir import RunDirectory, read_resolved
from activeph.state import PREPARED, State, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger
from activeph.store.lock import holder

LITTLE = 1e9  # bytes of free space below which a warning is due


class Note(str):
    """A finding that needs no help."""


@click.command("doctor")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Examine the run directory DIR: journal, labels, models, versions, disk. Changes nothing; ends with 1 if ill."""
    paths = run_directory(directory)
    ill = 0
    for examine in EXAMINATIONS:
        try:
            findings = list(examine(paths))
        except ActivephError as error:
            findings = [str(error)]
        bad = sum(not isinstance(finding, Note) for finding in findings)
        ill += bad
        title = (examine.__doc__ or "").strip().rstrip(".")
        click.echo(f"{'✗' if bad else '·' if findings else '✓'} {title}")
        for finding in findings:
            click.echo(f"    {finding}")
    if ill:
        many = f"{ill} findings" if ill > 1 else "1 finding"
        raise ActivephError(f"{directory} must be whole but got {many}; the lines above say what helps")


def _journal(paths: RunDirectory) -> Iterator[str]:
    """Journal."""
    state = _state(paths)
    if state.test is None and any((paths.root / "arms").glob("*/*/round-*")):
        yield "the journal is empty though rounds exist; restore journal.jsonl from a copy"


def _driver(paths: RunDirectory) -> Iterator[str]:
    """Lock."""
    driver = holder(paths.root)
    if driver and driver.get("host") != os.uname().nodename:
        yield f"{driver.get('host')} holds it; if that host is gone for good, remove {paths.root / 'lock'}"


def _labels(paths: RunDirectory) -> Iterator[str]:
    """Labels on disk."""
    from activeph.ledger_tools import verify_ledger

    for _, problem in verify_ledger(Ledger(paths.labels)):
        if problem is not None:
            yield problem


def _spent(paths: RunDirectory) -> Iterator[str]:
    """Labels that the journal counts."""
    state, ledger = _state(paths), Ledger(paths.labels)
    steps = (None, PREPARED, *state.labelled) if state.labelled else ()
    picks = [pick for step in steps for pick in state.counting(step)]
    missing = sorted({pick.key for pick in picks if ledger.state(pick.key) is None})
    if missing:
        lost = f"{len(missing)} are missing, such as" if len(missing) > 1 else "1 is missing,"
        yield f"{lost} {missing[0][:12]}; restore {paths.labels} from a copy, or run again to calculate what is missing"


def _models(paths: RunDirectory) -> Iterator[str]:
    """Trained models."""
    from activeph.recovery import lost_members

    members = int((read_resolved(paths.campaign).get("model") or {}).get("members", 1))
    lost = lost_members(_state(paths), paths, members)
    for step in dict.fromkeys(step for step, _ in lost):
        gone = [member for other, member in lost if other == step]
        many = "all members" if len(gone) == members else f"member {gone[0]}"
        yield f"{paths.round(*step)} lacks {many}; run again to have it trained anew, or restore it from a copy"


def _files(paths: RunDirectory) -> Iterator[str]:
    """Files of finished rounds."""
    from activeph.recovery import lost_files

    missing = lost_files(_state(paths), paths)
    if missing:
        lost = f"{len(missing)} are missing, such as" if len(missing) > 1 else "1 is missing,"
        yield f"{lost} {missing[0]}; the report leaves out rounds without them: run again to have them written anew"


def _versions(paths: RunDirectory) -> Iterator[str]:
    """Versions of the packages that can change a number."""
    begun, installed = read_resolved(paths.campaign).get("versions", {}), versions()
    for name, version in begun.items():
        if installed.get(name) != version:
            yield f"{name} was {version} and is {installed.get(name, 'missing')}; install {name}=={version} to continue"


def _leftovers(paths: RunDirectory) -> Iterator[str]:
    """Leftovers of stopped processes."""
    from activeph.ledger_tools import abandoned_work

    if paths.labels.is_symlink() and (shared := abandoned_work(Ledger(paths.labels))):
        yield Note(shared)
    if holder(paths.root) is not None:
        return
    left = [path for path in paths.root.rglob(".*") if path.name.startswith(".")]
    if left:
        many = (
            f"{len(left)} half-written files or folders, such as" if len(left) > 1 else "1 half-written file or folder,"
        )
        yield Note(f"{many} {left[0]}: harmless; the next run removes those below {paths.labels}")


def _disk(paths: RunDirectory) -> Iterator[str]:
    """Disk."""
    if not os.access(paths.root, os.W_OK):
        yield f"{paths.root} cannot be written; change its permissions"
    free = shutil.disk_usage(paths.root).free
    if free < LITTLE:
        yield f"{free / 1e6:.0f} MB are free; make space before continuing"


def _state(paths: RunDirectory) -> State:
    return fold(Journal(paths.journal).events())


EXAMINATIONS: tuple[Callable[[RunDirectory], Iterator[str]], ...] = (
    _journal,
    _driver,
    _labels,
    _spent,
    _models,
    _files,
    _versions,
    _leftovers,
    _disk,
)
