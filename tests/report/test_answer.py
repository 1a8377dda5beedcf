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
        "saved (95 % interval 28 to 41 saved, 3 repeats); active-phonon ends at 0.0812 eV at 60 labels."
    )


def test_gain_from_the_first_round_is_at_least() -> None:
    text = sentence(replace(BASE, saved=50.0, high=50.0))
    assert "at least 50 labels saved (95 % interval 28 to 50 or more saved, 3 repeats)" in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"low": -3.0}, "; 36 labels saved (95 % interval 3 lost to 41 saved, 3 repeats)"),
        (
            {"saved": -16.0, "low": -50.0, "high": 7.0},
            "; active-phonon needs 16 labels more (95 % interval 50 or more lost to 7 saved, 3 repeats)",
        ),
        (
            {"saved": -20.0, "low": -50.0, "high": -4.0, "arm_error": 0.1171, "baseline_error": 0.0812},
            "worse than random at 0.0812 eV at 60 labels; active-phonon needs 20 labels more (95 % interval 4 to 50 or "
            "more lost, 3 repeats)",
        ),
        ({"saved": -1.2, "low": -3.0}, "; active-phonon needs 1 label more ("),
        ({"saved": -0.3, "low": -0.4}, "; 0 labels saved (95 % interval 0 to 41 saved, 3 repeats)"),
        ({"saved": 0.8, "low": 0.3}, "; 1 label saved (95 % interval 0 to 41 saved, 3 repeats)"),
    ],
)
def test_no_gain_is_said_plainly(changes: dict[str, float], part: str) -> None:
    text = sentence(replace(BASE, **changes))
    assert text.startswith("no gain shown: active-phonon ends at ")
    assert part in text
    assert "0.0812 eV" in text
    assert "0.117 eV" in text


STOPPED = replace(BASE, saved=22.0, low=8.0, high=30.0, arm_error=0.1502, arm_labels=20.0)  # by its goal


def test_an_arm_that_stopped_earlier_is_compared_at_its_own_error() -> None:
    assert sentence(STOPPED) == (
        "random reaches the final band gap MAE of active-phonon (0.15 eV at 20 labels) with 42 labels: 22 labels saved "
        "(95 % interval 8 to 30 saved, 3 repeats); random ends at 0.117 eV at 60 labels."
    )
    assert STOPPED.reading == (0.1502, 20.0, 42.0)
    assert BASE.reading == (0.1171, 60 - 36.4, 60.0)


def test_an_arm_that_went_further_and_still_lost_is_not_called_worse() -> None:
    text = sentence(replace(STOPPED, saved=-22.0, low=-30.0, high=-8.0, arm_error=0.09, arm_labels=90.0))
    assert "active-phonon ends at 0.09 eV band gap MAE at 90 labels, random at 0.117 eV at 60 labels; active" in text


def test_a_gain_by_stopping_early_is_no_claim_about_labels_never_made(simulate: Simulate) -> None:
    results = simulate({"active": lambda n: 0.6 * (n / 10) ** -0.4, "random": lambda n: (n / 10) ** -0.4})
    rounds = dict(results.rounds) | {"active": {n: one[:1] for n, one in results.rounds["active"].items()}}
    (line, _) = answer(replace(results, rounds=rounds)).splitlines()
    assert line.startswith("random reaches the final band gap MAE of active (")
    assert "at 10 labels) with " in line


def test_one_repeat_pretends_no_precision() -> None:
    text = sentence(replace(BASE, low=np.nan, high=np.nan, repeats=1))
    assert text.startswith("no gain shown")
    assert text.endswith("; 36 labels saved in the only repeat, which cannot tell chance from gain.")
    assert "interval" not in text
    assert "repeats" not in text


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


def test_a_baseline_alone_is_compared_with_nothing(simulate: Simulate) -> None:
    text = answer(simulate({"random": lambda n: 1 / n}))
    assert text.startswith("no gain shown: no arm beside the baseline 'random' has run; band gap MAE: random 0.0")
