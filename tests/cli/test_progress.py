from __future__ import annotations

import io

import pytest
from rich.console import Console

from activeph.cli.progress import BarProgress, LineProgress, duration, open_progress
from activeph.progress import NoProgress


class Clock:
    """Time that passes only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_one_line_a_minute_and_one_at_the_end() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = LineProgress(lines.append, clock)
    with progress.stage("labelling", 4) as stage:
        for _ in range(4):
            clock.now += 40.0
            stage.advance()
            assert len(lines) == int(clock.now // 80)
    assert lines == ["labelling: 2/4 after 1 min 20 s", *["labelling: 4/4 after 2 min 40 s"] * 2]


def test_a_stage_that_takes_no_time_leaves_no_line() -> None:
    lines: list[str] = []
    with LineProgress(lines.append, Clock()).stage("scoring", 4) as stage:
        stage.advance(4)
    assert lines == []


def test_unknown_lengths_are_not_counted() -> None:
    lines: list[str] = []
    clock = Clock()
    with LineProgress(lines.append, clock).stage("trying"):
        clock.now = 2.0
    assert lines == ["trying: 2.0 s"]


def test_a_log_is_used_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with open_progress(Console(file=io.StringIO(), force_terminal=False)) as progress:
        progress.say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_bars_on_a_terminal() -> None:
    stream = io.StringIO()
    with open_progress(Console(file=stream, force_terminal=True, width=80)) as progress:
        assert isinstance(progress, BarProgress)
        with progress.stage("labelling", 2) as stage:
            stage.advance(2)
            progress.say("[not markup] 1 label failed")
    shown = stream.getvalue()
    assert "labelling" in shown
    assert "[not markup] 1 label failed" in shown


def test_the_silent_one_fits_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    with NoProgress().stage("a", 3) as stage:
        stage.advance(3)
    NoProgress().say("a")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (725, "12 min 5 s"), (12_000, "3 h 20 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
