"""Run directories as arguments of commands."""

from __future__ import annotations

import os
import re
from pathlib import Path

from activeph.errors import InputError
from activeph.rundir import RunDirectory, refuse_without_campaign
from activeph.store.ledger import Ledger, ledger_of


def run_directory(path: Path) -> RunDirectory:
    """Return the run directory at ``path``. Raises InputError where there is none."""
    directory = RunDirectory(path.absolute())
    if not path.is_dir():
        raise InputError(f"DIR must be a run directory but got {path}, which is no folder; look in 'runs/'")
    refuse_without_campaign(directory)
    if not directory.campaign.is_file():
        raise InputError(
            f"DIR must be a run directory but got {path} without campaign.yaml; name one run, or run its campaign first"
        )
    return directory


def labels_of(path: Path) -> Ledger:
    """Return the ledger of a run directory, or the one at ``path`` itself. Raises InputError where there is none."""
    if (path / "labels").is_dir():
        return ledger_of(path)
    if path.is_dir() and (path.name == "labels" or any(re.fullmatch("[0-9a-f]{2}", name) for name in os.listdir(path))):
        return Ledger(path)
    raise InputError(f"DIR must be a run directory with labels but got {path}; run its campaign first")


def default_run(name: str, output: Path | None) -> RunDirectory:
    """Return where the campaign of that name runs."""
    return RunDirectory((output or Path("runs") / name).absolute())
