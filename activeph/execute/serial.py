"""The reference executor: one task after the other, in this process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

from activeph.execute.base import Workers
from activeph.records import Done, Failed
from activeph.section import Section


class SerialExecutor(Section):
    """Runs everything in the driver's own process. A crash of a code ends the campaign; run again to continue."""

    kind: Literal["serial"] = "serial"

    def start(self, directory: Path | None = None) -> AbstractContextManager[Workers]:
        """Return the one worker; it leaves no files."""
        return nullcontext(SerialWorkers())


class SerialWorkers:
    """Calls the function in order."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done | Failed]:
        """Yield the outcomes in the order of the tasks."""
        for index, task in enumerate(tasks):
            yield call(function, task, index)


def call(function: Callable[[Any], Any], task: Any, index: int) -> Done | Failed:
    """Return the outcome of one task. Interrupts pass through."""
    try:
        return Done(index, function(task))
    except Exception as error:
        return Failed(index, f"{type(error).__name__}: {error}", traceback.format_exc())
