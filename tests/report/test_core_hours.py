"""Errors over core-hours: what a repeat has asked for is what it pays, shared or not."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from activeph.report.core_hours import caption, core_hours_curve, cost_curves
from activeph.report.figures import metrics_table, write_figures
from activeph.report.page import page
from activeph.report.results import Picked, Results, Round, load_results

Simulate = Callable[..., Results]
WriteRun = Callable[[Results, Path], Path]


def picked(*keys: str) -> tuple[Picked, ...]:
    return tuple(Picked(key, "KBr", 300.0, key, 0.1) for key in keys)


@pytest.fixture(scope="module")
def results(simulate: Simulate) -> Results:
    """Two arms of two repeats and three rounds with keys and costs that can be counted by hand."""
    curves = {"active": lambda n: 1 / n**0.5, "random": lambda n: 2 / n**0.5}
    found = simulate(curves, labels=(1, 2, 3), repeats=2, structures=20, targets=("band_gap", "energy_per_atom"))
    rounds: dict[str, dict[int, tuple[Round, ...]]] = {"active": {}, "random": {}}
    for arm, repeats in found.rounds.items():
        for repeat, done in repeats.items():
            keys = ["shared", f"{arm}{repeat}1", f"{arm}{repeat}2"]
            rounds[arm][repeat] = tuple(
                replace(one, picked=picked(key), set_aside=("failed",) if one.number == 1 and arm == "active" else ())
                for one, key in zip(done, keys, strict=True)
            )
    costs = {"shared": 2.0, "failed": 5.0}
    for arm in rounds:
        costs |= {f"{arm}{repeat}{number}": 1.0 + repeat for repeat in (0, 1) for number in (1, 2)}
    return replace(found, rounds=rounds, costs=costs)


def test_every_repeat_pays_for_what_it_asked_for(results: Results) -> None:
    assert results.core_hours("random", 0) == [2.0, 3.0, 4.0]
    assert results.core_hours("random", 1) == [2.0, 4.0, 6.0]  # the shared label is paid for once more
    assert results.core_hours("active", 0) == [2.0, 8.0, 9.0]  # a failure is paid for too


def test_unknown_costs_count_as_the_mean_of_the_known(results: Results) -> None:
    costs = {key: cost for key, cost in results.costs.items() if key != "random01"}
    some = replace(results, costs=costs)
    mean = float(np.mean(list(costs.values())))
    assert some.core_hours("random", 0) == pytest.approx([2.0, 2.0 + mean, 3.0 + mean])
    assert "The time of 1 of 10 labels is not known" in caption(some)
    assert "not known" not in caption(results)
    assert np.isnan(replace(results, costs={}).core_hours("random", 0)).all()


def test_curves_are_compared_where_all_repeats_have_been(results: Results) -> None:
    hours, values = cost_curves(results, "random", "band_gap", "mae")
    assert hours.tolist() == [2.0, 3.0, 4.0]  # repeat 1 went on to 6 alone
    column = results.target_names.index("band_gap")
    errors = [
        [float(np.abs(one.mean[:, column] - results.truth[:, column]).mean()) for one in done]
        for done in results.rounds["random"].values()
    ]
    assert values[0] == pytest.approx(errors[0])
    assert values[1] == pytest.approx([errors[1][0], np.mean(errors[1][:2]), errors[1][1]])


def test_the_picture_has_labels_and_core_hours_side_by_side(results: Results) -> None:
    panels = core_hours_curve(results).axes
    assert [panel.get_xlabel() for panel in panels] == ["", "", "labels per repeat", "core-hours per repeat"]
    for left, right in zip(panels[::2], panels[1::2], strict=True):
        assert left.get_ylim() == right.get_ylim()
        ends = [[float(line.get_ydata()[-1]) for line in one.get_lines()[:2]] for one in (left, right)]  # type: ignore[index]
        assert len(ends[0]) == len(ends[1]) == 2
    assert [line.get_label() for line in panels[0].get_lines()[2:]] == ["active", "random"]


def test_files_and_page_have_them_where_costs_are_known(results: Results, write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(results, tmp_path)
    known = {path.name for path in write_figures(folder, results.costs)}
    assert {"core-hours.png", "core-hours.svg"} < known
    loaded = load_results(folder, results.costs)
    rows = list(csv.DictReader(io.StringIO(metrics_table(loaded))))
    wanted = {"arm": "random", "repeat": "1", "round": "2", "temperature_K": "all"}
    assert {row["core_hours"] for row in rows if wanted.items() <= row.items()} == {"6"}
    assert "A label that several arms or repeats use is counted for each" in page(loaded, (), {})
    without = load_results(folder)
    assert "core-hours" not in page(without, (), {})
    assert {row["core_hours"] for row in csv.DictReader(io.StringIO(metrics_table(without)))} == {""}
