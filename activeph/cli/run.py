"""``activeph run``: a campaign from its file to its answer."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from types import FrameType

import click

from activeph.cli.outputs import check_way
from activeph.cli.progress import open_progress
from activeph.errors import InputError, Paused

BEFORE_THE_RUN = r"lock|labels|driver\.sh|driver-\d+\.log"
"""Files of ours in the folder of a run that has not begun: `activeph submit` and `ledger import` write there first."""


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory; default: runs/<name>.")
def command(file: Path, output: Path | None) -> None:
    """Run the campaign of FILE, or continue it where it stopped.

    Finished steps are never repeated and no label is computed twice. A complete campaign is left alone.
    """
    refuse_foreign_folder(output)
    signal.signal(signal.SIGTERM, _stop)  # what schedulers send before they kill
    try:
        with open_progress() as progress:
            from activeph.build import run_campaign

            answer = run_campaign(file, output, progress)
    except KeyboardInterrupt:
        again = f"activeph run {file}" + (f" --output {output}" if output else "")
        raise Paused(f"stopped; nothing finished is lost: '{again}' continues") from None
    click.echo(answer)


def refuse_foreign_folder(output: Path | None) -> None:
    """Raise InputError where the run's files would be strewn among others."""
    if output is None:
        return
    check_way(output, "--output")
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"--output must be a folder but got the file {output}; choose another")
    names = {path.name for path in output.iterdir()}
    if not {"campaign.yaml", "journal.jsonl"} & names and not all(re.fullmatch(BEFORE_THE_RUN, name) for name in names):
        raise InputError(
            f"--output must be new, empty or a run directory but got {output} with other files; choose another"
        )


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
