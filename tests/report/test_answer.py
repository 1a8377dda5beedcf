"""The sentences a user reads at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.report.answer import answer, attribution, headline_savings, sentence
from activeph.report.results import Results
from activeph.report.savings import Saving

Simulate = Callable[..., Results]
BASE = Saving(
    "active-phonon", "random", "band_gap", "mae", 36.4, 28.2, 41.0, -50.0, 50.0, 0.0812, 0.1171, 60.0, 60.0, 3
)


def test_gain() -> None:
    assert sentence(BASE) == (
        "active-phonon reaches the final band gap MAE of random (0.117 eV at 60 labels) with 24 labels: 36 labels "
        "saved (95 % interval 28 to 41, 3 repeats); active-phonon ends at 0.0812 eV at 60 labels."
    )


def test_gain_from_the_first_round_is_at_least() -> None:
    text = sentence(replace(BASE, saved=50.0, high=50.0))
    assert "at least 50 labels saved (95 % interval 28 to 50 or more, 3 repeats)" in text


@pytest.mark.parametrize(
    ("changes", "start", "part"),
    [
        ({"low": -3.0}, "no gain shown", "+36 labels saved (95 % interval -3 to 41, 3 repeats)"),
        ({"saved": -20.0, "low": -50.0, "high": -4.0}, "no gain shown", "worse than random"),
        ({"low": np.nan, "high": np.nan, "repeats": 1}, "no gain shown", "1 repeat: no interval"),
    ],
)
def test_no_gain_is_said_plainly(changes: dict[str, float], start: str, part: str) -> None:
    text = sentence(replace(BASE, **changes))
    assert text.startswith(start)
    assert part in text
    assert "0.0812 eV" in text
    assert "0.117 eV" in text


def test_one_line_per_arm_and_attribution_to_the_same_sampler(simulate: Simulate) -> None:
    arms = {
        "active-phonon": {"sample": {"kind": "phonon"}, "select": {"kind": "lcmd"}},
        "phonon": {"sample": {"kind": "phonon"}, "select": {"kind": "random"}},
        "random": {"sample": {"kind": "random"}, "select": {"kind": "random"}},
    }
    curves = {name: (lambda n, factor=factor: factor / n) for name, factor in zip(arms, (2, 4, 10), strict=True)}
    results = simulate(curves, campaign={"arms": arms, "budget": {"labels": 60, "initial": 10, "repeats": 3}})
    assert [(one.arm, one.baseline) for one in headline_savings(results)] == [
        ("active-phonon", "random"),
        ("phonon", "random"),
    ]
    assert [(one.arm, one.baseline) for one in attribution(results)] == [("active-phonon", "phonon")]
    lines = answer(results).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("by selection alone, active-phonon reaches")


def test_unfinished_and_without_baseline(simulate: Simulate) -> None:
    results = simulate({"active": lambda n: 1 / n}, campaign={"budget": {"labels": 90}})
    text = answer(results)
    assert "'random' has not run" in text
    assert "at 60 labels" in text
    assert "not finished: its budget is 90 labels" in text
