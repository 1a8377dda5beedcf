"""``activeph ledger``: the labels themselves, whatever campaign or arm asked for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from activeph.cli.export import FORMATS
from activeph.cli.rundirs import labels_of
from activeph.errors import ActivephError, InputError
from activeph.records import Entry, Failure, Label


@click.group("ledger")
def command() -> None:
    """List, verify or export the labels of a run directory."""


@command.command("list")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--failed", is_flag=True, help="Failures only.")
def list_records(directory: Path, failed: bool) -> None:
    """List every label and failure of DIR: key, outcome, atoms, energy and gap in eV, seconds."""
    ledger = labels_of(directory)
    counts: Counter[str] = Counter()
    for key in list(ledger.keys()):
        record = ledger.get(key)
        counts[type(record).__name__] += 1
        if isinstance(record, Label) and not failed:
            seconds = record.provenance.get("wall_time") or 0.0
            atoms, gap = len(record.configuration.numbers), record.band_gap
            click.echo(f"{key[:12]}  label    {atoms:4} atoms  {record.energy:14.6f}  {gap:8.4f}  {seconds:9.1f} s")
        elif isinstance(record, Failure):
            click.echo(f"{key[:12]}  failure  {record.kind}: {record.message}")
    click.echo(f"{counts['Label']} labels, {counts['Failure']} failures in {ledger.root}")


@command.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def verify(directory: Path) -> None:
    """Read every record of DIR and compare it with its checksum; name what is damaged. Changes nothing."""
    ledger = labels_of(directory)
    damaged = 0
    keys = list(ledger.keys())
    for key in keys:
        try:
            if ledger.get(key) is None:
                raise InputError(f"{ledger.directory(key)} must hold a label or a failure but got neither; remove it.")
        except InputError as error:
            damaged += 1
            click.echo(str(error))
    if damaged:
        raise ActivephError(f"all {len(keys)} records must be whole but got {damaged} damaged; see above what helps")
    click.echo(f"{len(keys)} records are whole")


@command.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), default="extxyz", show_default=True, help="Format of FILE."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="File to write.")
def export(directory: Path, file_format: str, output: Path) -> None:
    """Write every label of DIR to FILE, those of finite displacements included, without arms and splits.

    Use `activeph export` for the dataset of a campaign with its fixed split.
    """
    from activeph.store.export import export_entries

    ledger = labels_of(directory)
    records = {key: ledger.get(key) for key in list(ledger.keys())}
    entries = [
        Entry(key, record, _formula(record), float("nan"), key, ("unknown",), "train")
        for key, record in records.items()
        if isinstance(record, Label)
    ]
    for path in export_entries(entries, file_format, output, ()):
        click.echo(path)
    click.echo(f"{len(entries)} labels")


def _formula(label: Label) -> str:
    from ase.data import chemical_symbols
    from ase.formula import Formula

    return str(Formula.from_list([chemical_symbols[number] for number in label.configuration.numbers]).format("metal"))
