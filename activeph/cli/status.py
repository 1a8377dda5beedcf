"""``activeph status``: where a campaign stands, for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from activeph.cli.progress import duration
from activeph.cli.rundirs import run_directory
from activeph.cli.standing import standing
from activeph.targets import TARGETS

SHOWN = 5  # failures and outliers
NOTEWORTHY = 0.001  # share of draws refused by guards that is worth a line
NARROWEST = 100  # columns: the table is not squeezed further, also in a log


@click.command("status")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(directory: Path, as_json: bool) -> None:
    """Show where the campaign in the run directory DIR stands: rounds, labels, failures, errors. Reads only.

    With --json the keys are stable as long as "schema" is activeph-status-2; docs/status.md says what each means.
    """
    facts = standing(run_directory(directory))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, NARROWEST)
    console.print(f"{facts['name']}: {_headline(facts)}", markup=False)
    for job in facts["jobs"]:
        why = "" if job["state"] == "RUNNING" else f" ({job['reason']})"
        console.print(f"job {job['number']} is {job['state'].lower()}{why}", markup=False)
    for line in [*_amounts(facts), *_pace(facts)]:
        console.print(line, markup=False)
    console.print(_table(facts))
    for arm, repeats in facts["arms"].items():
        shares = [repeat["refused"] for repeat in repeats if repeat["refused"] is not None]
        if shares and max(shares) >= NOTEWORTHY:
            console.print(f"guards refused {sum(shares) / len(shares):.1%} of the draws of {arm}", markup=False)
    for title, told in (("failed", facts["quarantined"]), ("set aside", facts["outliers"])):
        for one in told[-SHOWN:]:
            console.print(f"{title}: {one['key'][:12]} {one['kind']}: {one['message']}", markup=False)
        if len(told) > SHOWN:
            console.print(f"{title}: {len(told) - SHOWN} more; --json lists all", markup=False)
    if facts["outliers"]:
        console.print("'activeph logs' shows one; 'activeph ledger accept' takes it back", markup=False)


def _amounts(facts: dict[str, Any]) -> list[str]:
    """Return what there is, in one line, and what failed by class in another."""
    counts = facts["labels"]
    words = {"done": "labels", "running": "being computed", "queued": "queued", "failed": "failed and replaced"}
    lines = [*_prepared(facts["preparation"]), ", ".join(f"{counts[name]} {word}" for name, word in words.items())]
    classes = {**facts["failures"], **({"outlier": len(facts["outliers"])} if facts["outliers"] else {})}
    classes |= {f"attempts {name}": number for name, number in facts["retries"].items()}
    if classes:
        lines.append("by class: " + ", ".join(f"{number} {name}" for name, number in sorted(classes.items())))
    return lines


def _prepared(facts: dict[str, Any]) -> list[str]:
    """Return what was calculated of crystals before the first round, as far as anything was."""
    words = {"done": "labels", "running": "being computed", "failed": "failed"}
    parts = [f"{facts[name]} {word}" for name, word in words.items() if facts[name]]
    return [f"preparation: {', '.join(parts)}, {facts['core_hours']:.3g} core-hours spent"] if parts else []


def _pace(facts: dict[str, Any]) -> list[str]:
    """Return throughput, time left and core-hours, as far as they are known."""
    spent, limit = facts["core_hours"]["spent"], facts["core_hours"]["limit"]
    parts = [f"{facts['labels_per_hour']:.3g} labels per hour"] if facts["labels_per_hour"] else []
    if facts["state"] != "complete":
        parts.append(f"at most {facts['labels_left']} to go")
    if facts["seconds_left"]:
        parts.append(f"about {duration(facts['seconds_left'])} left")
    of = f" of {limit:g}" if limit else ""
    return [", ".join([*parts, f"{spent:.3g}{of} core-hours spent"])]


def _headline(facts: dict[str, Any]) -> str:
    where = "" if facts["round"] is None else f", round {facts['round']}"
    if facts["state"] == "complete":
        return f"complete{where}"
    if facts["state"] == "running":
        driver = facts["driver"]
        return f"running{where}, {facts['step']} (process {driver['pid']} on {driver['host']} since {driver['since']})"
    why = f": {facts['reason']}" if facts["reason"] else "; run its campaign file again to continue"
    return f"stopped{where}, {facts['step']} comes next{why}"


def _table(facts: dict[str, Any]) -> Any:
    from rich.table import Table

    targets = list(dict.fromkeys(name for arm in facts["arms"].values() for repeat in arm for name in repeat["mae"]))
    table = Table(box=None, pad_edge=False, header_style="bold")
    above = "\n" if targets else ""  # targets have headings of two lines
    table.add_column(f"{above}arm", no_wrap=True)
    for heading in ("repeat", "round", "labels", "failed"):
        table.add_column(f"{above}{heading}", justify="right", no_wrap=True)
    for name in targets:
        table.add_column(_heading(name), justify="right", no_wrap=True)
    for arm, repeats in facts["arms"].items():
        for repeat in repeats:
            table.add_row(arm, *_row(repeat, targets))
    if targets:
        table.caption, table.caption_justify = "last columns: mean absolute error on the test set", "left"
    return table


def _heading(target: str) -> str:
    """Return a target's name and unit in two lines of like length."""
    words = [*target.split("_"), TARGETS[target].printed_unit if target in TARGETS else ""]
    cuts = [(" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words))]
    return "\n".join(min(cuts, key=lambda lines: max(map(len, lines))))


def _row(repeat: dict[str, Any], targets: list[str]) -> list[str]:
    labels = repeat["labels"]
    ended = " ✓" if repeat["finished"] else ""
    errors = [repeat["mae"].get(name) for name in targets]
    return [
        str(repeat["repeat"]),
        "-" if repeat["round"] is None else str(repeat["round"]),
        f"{labels['done']}/{repeat['budget']}{ended}",
        str(labels["failed"]),
        *("-" if error is None else f"{error:.3g}" for error in errors),
    ]
