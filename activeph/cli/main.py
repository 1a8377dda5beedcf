"""``activeph``: one command per file, imported when it is typed, so that ``--help`` needs nothing heavy."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

import activeph
from activeph.errors import ActivephError, Paused

COMMANDS = {
    "run": "Run a campaign, or continue it where it stopped.",
    "submit": "Run a campaign from a job of Slurm.",
    "check": "Check a campaign file and forecast what its labels will cost.",
    "init": "Write a commented campaign file for a crystal.",
    "status": "Show where a campaign stands.",
    "report": "Write the one-page report of a campaign and print the answer.",
    "plot": "Draw the pictures of a campaign again.",
    "export": "Write the labelled dataset for other programs.",
    "compare": "Show several campaigns side by side.",
    "phonons": "Show the vibrations that a campaign samples.",
    "predict": "Predict other structures with a trained ensemble.",
    "logs": "Show what one calculation said.",
    "ledger": "List, verify, import or export labels.",
    "doctor": "Examine a run directory and say what helps.",
    "schema": "List the keys of campaign files, for people or editors.",
}

STDOUT = 1  # file descriptor


class Commands(click.Group):
    """Imports ``activeph.cli.<name>`` when the command is named and shows the table above until then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"activeph.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(activeph.__version__, prog_name="activeph")
def group() -> None:
    """Phonon-informed active learning of finite-temperature crystal properties, beside its random baseline.

    \b
    A first campaign:  activeph init                  asks for a structure, writes campaign.yaml
                       activeph check campaign.yaml   what will it cost?
                       activeph run campaign.yaml
    Every key:         activeph schema --text

    Exit codes: 0 done, 2 the input is wrong, 3 stopped cleanly (run again to continue), 1 anything else.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; errors of the user end in one sentence."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    try:
        result = group.main(arguments, prog_name="activeph", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        return _complain("stopped; run the same command again to continue", Paused.exit_code)
    except ActivephError as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has left, as in `activeph status DIR | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
        return 1
    except OSError as error:
        what = error.filename or "the file system"
        return _complain(f"{what} must be usable but got {error.strerror or error!r}; check permissions and space", 1)


def _complain(text: str, code: int) -> int:
    click.echo(f"activeph: {text}", err=True)
    return code
