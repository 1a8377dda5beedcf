"""``activeph logs``: what a calculation said, by the first digits of its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from activeph.cli.rundirs import labels_of
from activeph.errors import InputError
from activeph.store.ledger import Ledger

BINARY = (".npz", ".npy", ".gpw", ".gz", ".wfn")
INTERNAL = ("format", "key", "arrays_sha256")
TAIL = 40  # lines


@click.command("logs")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("label")
@click.option("--all", "whole", is_flag=True, help=f"Whole files instead of their last {TAIL} lines.")
def command(directory: Path, label: str, whole: bool) -> None:
    """Show what is known of LABEL (the first digits of its key) in the run directory DIR: outcome, cost, code's output.

    Keys are in `activeph status`, `activeph ledger list` and the selection.json of each round.
    """
    ledger = labels_of(directory)
    key = find_key(ledger, label)
    folder = ledger.directory(key)
    click.echo(f"{key}\n{folder}")
    for line in _facts(folder):
        click.echo(line)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in BINARY and path.name not in ("label.json", "failure.json"):
            _show(path, whole)


def find_key(ledger: Ledger, start: str) -> str:
    """Return the one key that begins with ``start``. Raises InputError where none or several do."""
    found = [key for key in list(ledger.keys()) if key.startswith(start.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"LABEL must be the beginning of a key but got {start!r}; 'activeph ledger list' shows them")
    raise InputError(
        f"LABEL must be the beginning of one key but got {start!r}, which {len(found)} keys share; give more digits"
    )


def _facts(folder: Path) -> list[str]:
    for name in ("label.json", "failure.json"):
        try:
            facts: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        provenance = facts.pop("provenance", {})
        lines = [
            f"{key}: {_worded(value)}" for key, value in facts.items() if key not in ("format", "arrays_sha256", "key")
        ]
        return lines + [f"{key}: {_worded(value)}" for key, value in provenance.items()]
    return ["the record is missing or damaged: 'activeph ledger verify' tells more"]


def _worded(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)


def _show(path: Path, whole: bool) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    hidden = 0 if whole else max(0, len(lines) - TAIL)
    title = f"--- {path.name}" + (f" (last {TAIL} of {len(lines)} lines)" if hidden else "")
    click.echo("\n".join([title, *lines[hidden:]]))
