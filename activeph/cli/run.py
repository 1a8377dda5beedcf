"""``activeph run``: a campaign from its file to its answer."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from activeph.cli.progress import open_progress
from activeph.errors import Paused


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory; default: runs/<name>.")
def command(file: Path, output: Path | None) -> None:
    """Run the campaign of FILE, or continue it where it stopped.

    Finished steps are never repeated and no label is computed twice. A complete campaign is left alone.
    """
    signal.signal(signal.SIGTERM, _stop)  # what schedulers send before they kill
    try:
        with open_progress() as progress:
            from activeph.build import run_campaign

            answer = run_campaign(file, output, progress)
    except KeyboardInterrupt:
        again = f"activeph run {file}" + (f" --output {output}" if output else "")
        raise Paused(f"stopped; nothing finished is lost: '{again}' continues") from None
    click.echo(answer)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
