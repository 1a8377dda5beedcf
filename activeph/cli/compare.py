"""``activeph compare``: several campaigns side by side."""

from __future__ import annotations

from pathlib import Path

import click

from activeph.cli.rundirs import run_directory


@click.command("compare")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(directories: tuple[Path, ...]) -> None:
    """Show what the arms of several run directories reached and how many labels they saved, one row each."""
    for directory in directories:
        run_directory(directory)
    from activeph.report.compare import compare

    click.echo(compare(directories))
