"""Run directories as arguments of commands."""

from __future__ import annotations

from pathlib import Path

from activeph.errors import InputError
from activeph.rundir import RunDirectory


def run_directory(path: Path) -> RunDirectory:
    """Return the run directory at ``path``. Raises InputError where there is none."""
    directory = RunDirectory(path.absolute())
    if not path.is_dir():
        raise InputError(f"DIR must be a run directory but got {path}, which is no folder; look in 'runs/'")
    if not directory.campaign.is_file():
        raise InputError(f"DIR must be a run directory but got {path} without campaign.yaml; name one run")
    return directory
