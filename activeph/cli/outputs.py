"""Where commands write: a place that cannot be written is refused before any work is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from activeph.errors import InputError


class OutputFile(click.Path):
    """The type of options that name a file to write. Folders on its way need not exist: the command makes them."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. Raises InputError where no file of that name can be written."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        option = param.opts[-1] if param else "the file"
        self.check(path, option)
        check_way(path, option)
        return path

    def check(self, path: Path, option: str) -> None:
        """Raise InputError where ``path`` is a folder."""
        if path.is_dir():
            raise InputError(f"{option} must be a file but got the folder {path}; name a file in it")


class OutputPlace(OutputFile):
    """The type of options that name a file or a folder to write; the command knows which and checks it."""

    def check(self, path: Path, option: str) -> None:
        """Allow folders."""


def check_way(path: Path, option: str) -> None:
    """Raise InputError where ``path`` could not be made: a file stands in its way, or a folder is read-only."""
    parents = path.absolute().parents
    nearest = next(parent for parent in parents if os.path.lexists(parent))
    if not nearest.is_dir():
        raise InputError(f"{option} must lie in a folder but got {path}, and {nearest} is a file; choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{option} must lie in a folder that can be written but got {path}; choose another place")
