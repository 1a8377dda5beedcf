"""What a running campaign tells the person who waits: stages that advance, and sentences that stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """One piece of work of known or unknown length."""

    def advance(self, n: int = 1) -> None:
        """Count ``n`` further steps as done."""
        ...


class Progress(Protocol):
    """Where a running campaign reports. Nothing depends on it: a silent one gives the same results."""

    def stage(self, title: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Open a stage of ``total`` steps (None: unknown); leaving the context closes it."""
        ...

    def say(self, text: str) -> None:
        """Show one line that stays."""
        ...


class NoStage:
    """A stage that shows nothing."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""


class NoProgress:
    """Reports nothing: for tests and for use as a library."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """Open a silent stage."""
        yield NoStage()

    def say(self, text: str) -> None:
        """Say nothing."""
