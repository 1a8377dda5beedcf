"""``activeph logs``: what a calculation said, by the first digits of its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from activeph.cli.progress import duration
from activeph.cli.rundirs import labels_of
from activeph.ledger_tools import INTERNAL, find_record, log_files, read_facts

BINARY = (".npz", ".npy", ".gpw", ".gz", ".wfn")
ENERGIES = ("energy", "band_gap", "direct_band_gap", "valence_band_maximum", "conduction_band_minimum")  # eV
TAIL = 40  # lines


@click.command("logs")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("label")
@click.option("--all", "whole", is_flag=True, help=f"Whole files instead of their last {TAIL} lines.")
def command(directory: Path, label: str, whole: bool) -> None:
    """Show what is known of LABEL (the first digits of its key) in the run directory DIR: outcome, cost, code's output.

    Keys are in `activeph status`, `activeph ledger list` and the selection.json of each round. Calculations that are
    under way are found as well.
    """
    ledger = labels_of(directory)
    key, folder = find_record(ledger, label)
    click.echo(f"{key}\n{folder}")
    for line in _facts(folder):
        click.echo(line)
    for path in reversed(log_files(ledger, key)):  # what was written last stands last, above the prompt
        if path.suffix not in BINARY:
            _show(path, str(path.relative_to(folder)), whole)


def _facts(folder: Path) -> list[str]:
    if folder.name.startswith("."):
        return ["this calculation is under way"]
    facts: dict[str, Any] | None = read_facts(folder)
    if facts is None:
        return ["the record is missing or damaged: 'activeph ledger verify' tells more"]
    facts |= facts.pop("provenance", None) or {}
    return [f"{name}: {_worded(name, value)}" for name, value in facts.items() if name not in INTERNAL]


def _worded(name: str, value: object) -> str:
    """Return a value with its unit and the digits that matter."""
    if value is None:
        return "unknown"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in ENERGIES:
            return f"{value:.6f} eV"
        return duration(value) if name == "wall_time" else f"{value:.10g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _show(path: Path, name: str, whole: bool) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    hidden = 0 if whole else max(0, len(lines) - TAIL)
    title = f"--- {name}" + (f" (last {TAIL} of {len(lines)} lines)" if hidden else "")
    click.echo("\n".join([title, *lines[hidden:]]))
