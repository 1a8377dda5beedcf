"""``activeph export``: the labelled dataset, which is what a campaign is run for."""

from __future__ import annotations

from pathlib import Path

import click

from activeph.cli.outputs import OutputFile
from activeph.cli.rundirs import run_directory
from activeph.errors import InputError

FORMATS = ("extxyz", "ase-db", "hdf5")
SPLITS = ("train", "validation", "test")


@click.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), default="extxyz", show_default=True, help="Format of FILE."
)
@click.option("-o", "--output", type=OutputFile(), required=True, metavar="FILE", help="File to write.")
def command(directory: Path, file_format: str, output: Path) -> None:
    """Write all labels of the run directory DIR to FILE, with targets, provenance and a fixed split.

    Beside FILE lies a data card (FILE.md). Energies, forces and stresses are named REF_energy, REF_forces and
    REF_stress, as the trainer of MACE expects them.
    """
    check_name(file_format, output)
    paths = run_directory(directory)
    from activeph.entries import campaign_entries
    from activeph.rundir import read_resolved
    from activeph.state import fold
    from activeph.store.export import export_entries
    from activeph.store.journal import Journal
    from activeph.store.ledger import Ledger

    entries = campaign_entries(fold(Journal(paths.journal).events()), Ledger(paths.labels))
    targets = read_resolved(paths.campaign).get("targets", [])
    for path in export_entries(entries, file_format, output, targets):
        click.echo(path)
    counts = [f"{sum(entry.split == split for entry in entries)} {split}" for split in SPLITS]
    click.echo(f"{len(entries)} labels: {', '.join(counts)}")


def check_name(file_format: str, output: Path) -> None:
    """Raise InputError where the readers of a format, which go by the ending of a file, would not know the file."""
    if file_format == "ase-db" and output.suffix != ".db":
        raise InputError(
            f"--output must end with .db, by which ASE knows its databases, but got {output}; "
            f"write {output.with_suffix('.db')}"
        )
