"""The seam between the loop and the machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from activeph.records import Done, Failed


class Executor(Protocol):
    """Runs a function over tasks, here or elsewhere."""

    kind: str

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done | Failed]:
        """Yield one outcome per task in completion order; a task that raises or whose worker dies becomes Failed."""
        ...
