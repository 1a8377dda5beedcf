"""Labels saved: by hand on exact curves, and the interval on simulated campaigns whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.isotonic import IsotonicRegression

from activeph.report.results import Results
from activeph.report.savings import common_grid, labels_saved, non_increasing, reached, saved_labels

LABELS = np.array([10.0, 20, 30, 40, 50, 60])
Simulate = Callable[..., Results]


def power(factor: float, exponent: float = 0.4) -> Callable[[np.ndarray], np.ndarray]:
    return lambda n: factor * (n / 10) ** -exponent


def saved(own: list[float], other: list[float]) -> float:
    return float(saved_labels(LABELS, np.array([own]), LABELS, np.array([other]))[0])


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ([6, 4, 3, 2, 1, 1], [9, 8, 7, 6, 5, 4], 40),  # own reaches 4 at 20
        ([6, 3, 2, 2, 1, 1], [9, 8, 7, 6, 5, 4], 60 - (10 + 20 / 3)),  # 4 lies two thirds of the way from 6 to 3
        ([4, 4, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4], 0),
        ([3, 3, 3, 3, 3, 3], [9, 8, 7, 6, 5, 4], 50),  # there from the start: all that can be shown
        ([9, 8, 7, 6, 5, 4], [6, 4, 3, 2, 1, 1], -40),
        ([9, 3, 8, 6, 5, 3.9], [9, 8, 7, 6, 5, 4], 60 - (50 + 10 * (5 - 4) / (5 - 3.9))),  # a lucky dip is smoothed
    ],
)
def test_by_hand(own: list[float], other: list[float], expected: float) -> None:
    assert saved(own, other) == pytest.approx(expected)


@given(hnp.arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(0.01, 10)))
def test_isotonic_fit_equals_scikit_learn(curves: np.ndarray) -> None:
    points = np.arange(curves.shape[1])
    expected = [IsotonicRegression(increasing=False).fit_transform(points, curve) for curve in curves]
    assert np.allclose(non_increasing(curves), expected, atol=1e-10)


@given(hnp.arrays(float, (2, 6), elements=st.floats(0.01, 10)))
def test_roles_exchanged_sign_exchanged(pair: np.ndarray) -> None:
    assert saved(*pair.tolist()) == pytest.approx(-saved(*pair[::-1].tolist()))


def test_reached_at_the_ends() -> None:
    curve = np.array([[3.0, 2.0, 1.0]])
    labels = np.array([10.0, 20.0, 40.0])
    for level, expected in [(5.0, 10), (3.0, 10), (2.5, 15), (1.5, 30), (1.0, 40), (0.5, 40)]:
        assert reached(labels, curve, np.array([level]))[0] == expected


def test_grid_of_an_unfinished_campaign_ends_where_all_repeats_are() -> None:
    assert common_grid([[10, 20, 30], [10, 20]]).tolist() == [10, 20]
    assert common_grid([[10, 20, 29], [10, 19, 30]]).tolist() == [10, 19, 20, 29]


def test_noiseless_campaign_gives_the_exact_answer(simulate: Simulate) -> None:
    results = simulate({"active": power(0.7), "random": power(1.0)}, persistent=0.0, scatter=0.0, structures=20_000)
    found = labels_saved(results, "active", "random", "band_gap", n_draws=20)
    expected = saved_labels(LABELS, power(0.7)(LABELS)[None], LABELS, power(1.0)(LABELS)[None])[0]
    assert found.saved == pytest.approx(expected, abs=1.0)
    assert found.low > 30
    assert found.verdict == "gain"


def test_same_results_same_answer(simulate: Simulate) -> None:
    results = simulate({"active": power(0.8), "random": power(1.0)})
    first, second = (labels_saved(results, "active", "random", "band_gap", n_draws=50) for _ in range(2))
    assert first == second


def test_one_repeat_has_no_interval(simulate: Simulate) -> None:
    found = labels_saved(
        simulate({"active": power(0.3), "random": power(1.0)}, repeats=1), "active", "random", "band_gap"
    )
    assert found.verdict == "unknown"
    assert np.isnan(found.low)


CHANCES = {
    "of repeats": {"persistent": 0.15, "scatter": 0.05, "structures": 300},  # a bootstrap over 2 repeats covers 70 %
    "of rounds": {"persistent": 0.0, "scatter": 0.15, "structures": 300},
    "of structures": {"persistent": 0.03, "scatter": 0.03, "structures": 60},
}


@pytest.mark.parametrize(
    ("metric", "repeats"), [("mae", 2), *(pytest.param("rmse", n, marks=pytest.mark.slow) for n in (2, 3, 5))]
)
@pytest.mark.parametrize(("own", "exponent"), [(1.0, 0.4), (0.75, 0.4), (1.0, 0.02)])
@pytest.mark.parametrize("chance", CHANCES)
def test_interval_covers_the_truth(
    chance: str, own: float, exponent: float, metric: str, repeats: int, simulate: Simulate
) -> None:
    """Asked for 95 %; an interval that keeps its word covers fewer than 53 of 60 campaigns once in a hundred."""
    curves = {"active": power(own, exponent), "random": power(1.0, exponent)}
    truth = saved_labels(LABELS, curves["active"](LABELS)[None], LABELS, curves["random"](LABELS)[None])[0]
    found = [
        labels_saved(
            simulate(curves, repeats=repeats, seed=seed, **CHANCES[chance]),
            "active",
            "random",
            "band_gap",
            metric,
            n_draws=200,
        )
        for seed in range(60)
    ]
    assert sum(saving.low - 1e-9 <= truth <= saving.high + 1e-9 for saving in found) >= 53


def test_larger_campaigns_show_what_small_ones_cannot(simulate: Simulate) -> None:
    curves = {"active": power(0.7), "random": power(1.0)}
    shown = [
        sum(
            labels_saved(
                simulate(curves, repeats=repeats, seed=seed), "active", "random", "band_gap", n_draws=200
            ).verdict
            == "gain"
            for seed in range(20)
        )
        for repeats in (2, 6)
    ]
    assert shown[0] < shown[1]
    assert shown[1] >= 18
