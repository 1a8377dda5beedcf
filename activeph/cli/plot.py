"""``activeph plot``: pictures of a campaign, also of one that still runs."""

from __future__ import annotations

from pathlib import Path

import click

from activeph.cli.rundirs import run_directory


@click.command("plot")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Draw the pictures of the run directory DIR again, into DIR/report."""
    run_directory(directory)
    from activeph.report.figures import write_figures

    for path in write_figures(directory):
        click.echo(path)
