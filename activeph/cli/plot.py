"""``activeph plot``: pictures of a campaign, also of one that still runs."""

from __future__ import annotations

from pathlib import Path

import click

from activeph.cli.rundirs import run_directory
from activeph.rundir import RunDirectory


@click.command("plot")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Draw the pictures of the run directory DIR again, into DIR/report."""
    run_directory(directory)
    from activeph.build import draw_pictures

    for path in draw_pictures(RunDirectory(directory)):
        click.echo(path)
