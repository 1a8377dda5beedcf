"""The seam between the loop and the machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from activeph.records import Done, Failed


class Workers(Protocol):
    """Running workers, kept alive between calls of ``map``."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done | Failed]:
        """Yield one outcome per task in completion order; a task that raises or whose worker dies becomes Failed."""
        ...


class Executor(Protocol):
    """Starts workers, here or elsewhere; leaving the context stops them."""

    kind: str

    def start(self, directory: Path | None = None) -> AbstractContextManager[Workers]:
        """Return workers as a context manager; job scripts and logs, where there are any, go to ``directory``."""
        ...
