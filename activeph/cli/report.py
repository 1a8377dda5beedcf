"""``activeph report``: the page and the answer of a campaign, also of one that still runs."""

from __future__ import annotations

from pathlib import Path

import click

from activeph.cli.rundirs import run_directory


@click.command("report")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Write DIR/report/report.html with the pictures, and print the answer so far."""
    paths = run_directory(directory)
    from activeph.build import draw_report
    from activeph.report.answer import answer
    from activeph.report.results import load_results

    click.echo(draw_report(paths))
    click.echo(answer(load_results(directory)))
