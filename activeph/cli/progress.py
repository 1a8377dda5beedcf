"""Progress as a person wants to see it: live bars on a terminal, sparse plain lines in a batch log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from activeph.progress import Progress, Stage

SILENCE = 60.0  # s between two lines of one stage in a log
WORTH_A_LINE = 1.0  # s: shorter stages leave none


@contextmanager
def open_progress(console: Console | None = None) -> Iterator[Progress]:
    """Give the progress that suits standard error: bars on a terminal, lines elsewhere."""
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield LineProgress(lambda text: click.echo(text, err=True))
        return
    bars = Bars(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bars:
        yield BarProgress(bars)


class BarProgress:
    """Bars that make room for one line when their stage ends; what is said stays above them."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """Show one bar; unknown lengths pulse."""
        task = self._bars.add_task(title, total=total)
        lines = _Lines(title, total, self.say, time.monotonic)
        try:
            yield _Bar(self._bars, task, lines)
        finally:
            self._bars.remove_task(task)
        if lines.seconds >= WORTH_A_LINE:
            lines.tell()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bar:
    def __init__(self, bars: Bars, task: TaskID, lines: _Lines) -> None:
        self._bars, self._task, self._lines = bars, task, lines

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)
        self._lines.count(n)


class LineProgress:
    """One line when a stage ends, and one a minute while it lasts."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """Count silently; tell at the end how many steps took how long."""
        lines = _Lines(title, total, self._write, self._clock)
        yield lines
        if lines.seconds >= WORTH_A_LINE:
            lines.tell()

    def say(self, text: str) -> None:
        """Write a line."""
        self._write(text)


class _Lines:
    def __init__(self, title: str, total: int | None, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._title, self._total, self._write, self._clock = title, total, write, clock
        self._done = 0
        self._start = self._last = clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

    def count(self, n: int) -> None:
        self._done += n

    def advance(self, n: int = 1) -> None:
        self.count(n)
        if self._clock() - self._last >= SILENCE:
            self.tell()

    def tell(self) -> None:
        self._last = self._clock()
        counted = self._done or self._total
        count = f"{self._done}/{self._total} after " if self._total else f"{self._done} after " if counted else ""
        self._write(f"{self._title}: {count}{duration(self.seconds)}")


def duration(seconds: float) -> str:
    """Return a time as people say it: ``4.2 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
