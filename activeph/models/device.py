"""Where networks compute, and how much of a batch fits there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from activeph.errors import InputError
from activeph.models.base import Device

T = TypeVar("T")


def pick_device(wanted: Device) -> torch.device:
    """Return the processor to compute on. Raises InputError where a GPU is demanded that is not there."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InputError(
            "device must be there but got cuda on a machine without a GPU that torch can use; set device: auto or cpu."
        )
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


class Batches:
    """Cuts work into batches of ``size`` items; a size that does not fit into memory is halved for good."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)

    def run(self, n: int, work: Callable[[slice], T], begin: Callable[[], object] | None = None) -> list[T]:
        """Return what ``work`` says of each batch of ``n`` items; after a failure all are done again.

        ``begin`` is called before each attempt. Raises InputError where one item alone does not fit.
        """
        while True:
            if begin is not None:
                begin()
            try:
                return [work(slice(start, min(start + self.size, n))) for start in range(0, n, self.size)]
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            self._shrink(reason)  # after the exception is gone, and with it what its frames held

    def _shrink(self, reason: str) -> None:
        if self.size == 1:
            raise InputError(
                f"a single structure must fit into memory but got {reason!r}; lower the model's hidden or channels, "
                "blocks, layers or cutoff, or set device: cpu."
            )
        self.size = (self.size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: RuntimeError) -> bool:
    """Return whether memory ran out: on a GPU torch has a class for it, on a CPU a message."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
