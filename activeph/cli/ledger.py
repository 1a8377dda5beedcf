"""``activeph ledger``: the labels themselves, whatever campaign or arm asked for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from activeph.cli.export import FORMATS, check_name
from activeph.cli.outputs import OutputFile, check_way
from activeph.cli.rundirs import labels_of, run_directory
from activeph.errors import ActivephError, InputError
from activeph.records import Entry
from activeph.store.ledger import Ledger

COLUMNS = "{:12}  {:8}  {:>16}  {:>8}  {:>9}  {}"
HEADER = COLUMNS.format("key", "outcome", "energy (eV)", "gap (eV)", "time (s)", "code, or why there is no label")


@click.group("ledger")
def command() -> None:
    """List, verify, accept, import or export labels."""


@command.command("list")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--failed", is_flag=True, help="Failures only.")
def list_records(directory: Path, failed: bool) -> None:
    """List every label and failure of DIR with what its record says."""
    from activeph.ledger_tools import list_ledger

    ledger = labels_of(directory)
    counts: Counter[str] = Counter()
    click.echo(HEADER)
    for facts in list_ledger(ledger):
        counts[facts["state"]] += 1
        if not (failed and facts["state"] == "label"):
            click.echo(_row(facts))
    damaged = f", {counts['damaged']} damaged" if counts["damaged"] else ""
    click.echo(
        f"{_counted(counts['label'], 'label')}, {_counted(counts['failure'], 'failure')}{damaged} in {ledger.root}"
    )


def _row(facts: Mapping[str, Any]) -> str:
    provenance = facts.get("provenance") or {}
    said = {
        "label": str(provenance.get("code") or ""),
        "failure": f"{facts.get('kind')}: {str(facts.get('message')).partition(chr(10))[0]}",
        "damaged": "'activeph ledger verify' tells more",
    }
    numbers = (_number(facts.get("energy"), 6), _number(facts.get("band_gap"), 4))
    seconds = _number(provenance.get("wall_time"), 2)
    return COLUMNS.format(facts["key"][:12], facts["state"], *numbers, seconds, said[facts["state"]]).rstrip()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@command.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def verify(directory: Path) -> None:
    """Read every record of DIR: checksums, finite numbers, and that it lies under its own key. Changes nothing.

    What dead processes left half done is named, with the campaign that it belongs to.
    """
    from activeph.ledger_tools import abandoned_work, verify_ledger

    ledger = labels_of(directory)
    found = dict(verify_ledger(ledger))
    if left := abandoned_work(ledger):
        click.echo(left)
    problems = [problem for problem in found.values() if problem is not None]
    for problem in problems:
        click.echo(problem)
    if problems:
        raise ActivephError(
            f"{_counted(len(found), 'record')} must be whole but got {len(problems)} damaged; remove their folders to "
            "have them calculated again, or restore them from a copy"
        )
    click.echo(f"{_counted(len(found), 'record')}, all whole")


@command.command("accept")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
def accept_labels(directory: Path, keys: tuple[str, ...]) -> None:
    """Take labels that the campaign in DIR set aside as outliers back: from its next round on they train.

    KEYs are the beginnings of keys, as `activeph status` shows them. Look at each with `activeph logs` before: its
    energy or forces contradict each other or the ensemble, which happens where a code found another electronic state.
    """
    from activeph.acceptance import accept

    paths = run_directory(directory)
    for key in keys:
        click.echo(f"{accept(paths, key)} accepted")


@command.command("import")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--campaign",
    type=click.Path(path_type=Path),
    metavar="CAMPAIGN",
    help="Campaign file whose labeler made the labels.",
)
def import_files(directory: Path, files: tuple[Path, ...], campaign: Path | None) -> None:
    """Put the labels of finished calculations into the ledger at DIR, which is made where there is none.

    FILEs are vasprun.xml, the XML of pw.x, or anything with energies that ASE reads. With --campaign, campaigns with
    that labeler find them instead of calculating; without, only exports do.
    """
    from activeph.ledger_tools import import_labels

    check_way(directory, "DIR")
    ledger = labels_of(directory) if directory.exists() else Ledger(directory / "labels")
    imported = import_labels(ledger, files, None if campaign is None else _fingerprint(campaign))
    for sentence in imported.refused:
        click.echo(f"refused: {sentence}")
    click.echo(f"{_counted(imported.added, 'label')} added, {imported.known} known, {len(imported.refused)} refused")


def _fingerprint(campaign: Path) -> str:
    from activeph.config import load_campaign

    return load_campaign(campaign).label.fingerprint


@command.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), default="extxyz", show_default=True, help="Format of FILE."
)
@click.option("-o", "--output", type=OutputFile(), required=True, metavar="FILE", help="File to write.")
@click.option(
    "--fingerprint", default="", metavar="HEX", help="Only labels of the labeler whose fingerprint begins so."
)
def export(directory: Path, file_format: str, output: Path, fingerprint: str) -> None:
    """Write every label of DIR to FILE, those of finite displacements included, without arms and splits.

    Use `activeph export` for the dataset of a campaign with its fixed split. Labels of several labelers are told
    apart at the end: of a cheap code beside an expensive one, of teachers, or imported from several files.
    """
    from activeph.ledger_tools import ledger_entries
    from activeph.store.export import export_entries

    check_name(file_format, output)
    entries = [each for each in ledger_entries(labels_of(directory)) if _fingerprint_of(each).startswith(fingerprint)]
    labelers = Counter(map(_fingerprint_of, entries))
    if not entries and fingerprint:
        raise InputError(
            f"--fingerprint must be that of labels in DIR but got {fingerprint!r}; leave it out to see them"
        )
    for path in export_entries(entries, file_format, output, ()):
        click.echo(path)
    click.echo(_counted(len(entries), "label"))
    if len(labelers) > 1:
        counts = ", ".join(f"{name} ({number})" for name, number in labelers.most_common())
        click.echo(
            f"of several labelers, {counts}: energies of different codes do not belong together; see --fingerprint"
        )


def _fingerprint_of(entry: Entry) -> str:
    return str(entry.label.provenance.get("fingerprint"))
