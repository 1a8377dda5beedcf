"""Pictures of campaigns in any state, and the numbers behind them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from activeph.errors import InputError
from activeph.report.answer import answer
from activeph.report.curves import learning_curve, metric_curves
from activeph.report.figures import metrics_table, write_figures
from activeph.report.results import Results, load_results
from activeph.report.scatter import final_predictions, parity, uncertainty_error

Simulate = Callable[..., Results]
WriteRun = Callable[[Results, Path], Path]
NAMES = {"learning-curve.png", "learning-curve.svg", "parity.png", "uncertainty-error.png", "metrics.csv"}


@pytest.fixture(scope="module")
def results(simulate: Simulate) -> Results:
    curves = {"active": lambda n: 1 / n**0.5, "random": lambda n: 2 / n**0.5}
    budget = {"budget": {"labels": 30, "initial": 10, "repeats": 2}}
    return simulate(curves, labels=(10, 20, 30), repeats=2, structures=20, campaign=budget)


@pytest.fixture(scope="module")
def drawn(results: Results, write_run: WriteRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with its report."""
    folder = write_run(results, tmp_path_factory.mktemp("drawn"))
    assert {path.name for path in write_figures(folder)} == NAMES
    return folder


def test_round_trip_through_the_run_directory(results: Results, write_run: WriteRun, tmp_path: Path) -> None:
    loaded = load_results(write_run(results, tmp_path / "run"))
    assert loaded.rounds.keys() == results.rounds.keys()
    assert loaded.target_names == results.target_names
    assert (loaded.baseline, loaded.initial, loaded.budget, loaded.finished) == ("random", 10, 30, True)
    one, other = loaded.rounds["active"][1][2], results.rounds["active"][1][2]
    assert np.array_equal(one.mean, other.mean)
    assert one.picked == other.picked
    assert answer(loaded) == answer(results)


def test_equal_results_equal_bytes(results: Results, drawn: Path, write_run: WriteRun, tmp_path: Path) -> None:
    for path in write_figures(write_run(results, tmp_path)):
        assert path.read_bytes() == (drawn / "report" / path.name).read_bytes(), path.name


def test_answer_is_in_the_picture(drawn: Path) -> None:
    text = (drawn / "report" / "learning-curve.svg").read_text()
    for part in ("labels saved", "initial set", "active", "random", "band gap: RMSE (eV)", "band gap: R2"):
        assert part in text, part


def test_one_repeat_has_no_band(simulate: Simulate) -> None:
    figure = learning_curve(simulate({"active": lambda n: 1 / n, "random": lambda n: 2 / n}, repeats=1))
    headline = figure.subfigs[0].axes[0]
    assert headline.get_title(loc="left") == "simulated: 100 test structures; 1 repeat, no spread known"
    assert not headline.collections


def test_labels_saved_are_written_where_no_line_is(simulate: Simulate) -> None:
    quiet = {"persistent": 0.0, "scatter": 0.0, "structures": 2000}
    figure = learning_curve(simulate({"active": lambda n: 1 / n**2, "random": lambda n: 50 / n**2}, **quiet))
    FigureCanvasAgg(figure).draw()
    axes = figure.subfigs[0].axes[0]
    note = next(text for text in axes.texts if "saved" in text.get_text())
    zero = axes.transData.transform((0, 0))[1]
    assert note.get_window_extent().y1 < zero
    others = [text.get_window_extent() for text in axes.texts if text is not note and text.get_text()]
    assert not any(note.get_window_extent().overlaps(other) for other in others)


def test_r2_shows_the_end_of_every_line_and_tells_what_it_cuts(simulate: Simulate) -> None:
    curves = {"active": lambda n: 10 / n, "random": lambda n: np.where(n < 15, 9.0, 0.9)}
    results = simulate(curves, persistent=0.0, scatter=0.0)
    panel = learning_curve(results).subfigs[1].axes[2]
    assert "R2" in panel.get_title(loc="left")
    low, high = panel.get_ylim()
    values = metric_curves(results, "random", "band_gap", "r2")[1].mean(axis=0)
    assert values[0] < low < values[1:].min() < high
    mark = next(line for line in panel.get_lines() if line.get_marker() == "v")
    assert (mark.get_xdata().tolist(), mark.get_ydata().tolist()) == ([10.0], [low])
    assert [text.get_text() for text in panel.texts] == [f"cut at {low:.3g}, smallest {values.min():.3g}"]


def test_table_repeats_the_rounds_own_metrics(drawn: Path) -> None:
    rows = list(csv.DictReader((drawn / "report" / "metrics.csv").open()))
    assert len({row["temperature_K"] for row in rows}) == 5
    assert {row["system"] for row in rows} == {"all"}
    whole = [row for row in rows if row["temperature_K"] == "all"]
    assert len(whole) == 2 * 2 * 3
    for row in whole:
        folder = drawn / "arms" / row["arm"] / f"repeat-{row['repeat']}" / f"round-{int(row['round']):03d}"
        record = json.loads((folder / "metrics.json").read_text())
        assert int(row["labels"]) == record["labels"]
        for name, value in record["targets"]["band_gap"].items():
            assert float(row[name]) == pytest.approx(value)


def test_several_systems_have_rows_of_their_own(results: Results) -> None:
    table = metrics_table(replace(results, systems=("KBr", "NaCl") * 10))
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["system"] == "NaCl"]
    assert len(rows) == 2 * 2 * 3
    last = results.rounds["random"][1][2]
    expected = np.abs(last.mean[1::2, 0] - results.truth[1::2, 0]).mean()
    assert float(rows[-1]["mae"]) == pytest.approx(expected)


def test_unfinished_campaign_is_drawn_as_far_as_it_went(results: Results, write_run: WriteRun, tmp_path: Path) -> None:
    rounds = {"active": {0: results.rounds["active"][0], 1: results.rounds["active"][1][:1]}}
    rounds["random"] = {0: results.rounds["random"][0][:2]}
    write_run(replace(results, rounds=rounds), tmp_path)
    (tmp_path / "arms" / "random" / "repeat-0" / "round-001" / "test_predictions.npz").unlink()
    (tmp_path / "arms" / "random" / "repeat-1" / "round-000").mkdir(parents=True)
    loaded = load_results(tmp_path)
    assert {arm: {r: len(found) for r, found in repeats.items()} for arm, repeats in loaded.rounds.items()} == {
        "active": {0: 3, 1: 1},
        "random": {0: 1},
    }
    assert "not finished" in answer(loaded)
    assert len(write_figures(tmp_path)) == 5


def test_constant_target_without_spread_is_drawn(results: Results, write_run: WriteRun, tmp_path: Path) -> None:
    rounds = {
        arm: {
            r: tuple(replace(one, mean=0 * one.mean, std=0 * one.std) for one in found) for r, found in repeats.items()
        }
        for arm, repeats in results.rounds.items()
    }
    write_run(replace(results, truth=0 * results.truth, rounds=rounds), tmp_path)
    assert len(write_figures(tmp_path)) == 5
    assert answer(load_results(tmp_path)).startswith("no gain shown")


@pytest.mark.parametrize(("wild", "expected"), [(1.2, 0), (50.0, 1), (-50.0, 1)])
def test_every_prediction_is_in_the_parity_frame_or_marked_on_its_edge(
    results: Results, wild: float, expected: int
) -> None:
    last = results.rounds["active"][0][-1]
    mean = last.mean.copy()
    mean[0] = results.truth.max() * wild
    rounds = {**results.rounds, "active": {0: (*results.rounds["active"][0][:-1], replace(last, mean=mean))}}
    changed = replace(results, rounds=rounds)
    axes = parity(changed).axes[0]
    low, high = axes.get_ylim()
    _, predicted, _ = final_predictions(changed, "active", "band_gap")
    inside = (predicted >= low) & (predicted <= high)
    assert (~inside).sum() == expected
    points, *marks, _ = axes.get_lines()
    np.testing.assert_array_equal(points.get_ydata(), predicted[inside])
    assert [line.get_marker() for line in marks] == ["^" if wild > 0 else "v"] * expected
    assert [float(line.get_ydata()[0]) for line in marks] == [high if wild > 0 else low] * expected
    assert ("1 beyond the frame" in axes.texts[0].get_text()) == bool(expected)


@pytest.mark.parametrize("draw", [parity, uncertainty_error])
def test_numbers_cover_no_point(results: Results, draw: Callable[[Results], Figure]) -> None:
    figure = draw(results)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        assert axes.texts[0].get_window_extent().y0 >= axes.get_window_extent().y1
        assert axes.title.get_window_extent().y0 >= axes.texts[0].get_window_extent().y1


def test_a_goal_met_or_a_pool_exhausted_ends_a_campaign(results: Results) -> None:
    short = {"budget": {"labels": 90, "initial": 10, "repeats": 2}}
    assert not replace(results, campaign=short).finished
    assert replace(results, campaign={"budget": {**short["budget"], "target_error": {"band_gap": 10.0}}}).finished
    empty = {
        arm: {repeat: (*found[:-1], replace(found[-1], picked=())) for repeat, found in repeats.items()}
        for arm, repeats in results.rounds.items()
    }
    assert replace(results, rounds=empty, campaign=short).finished


@pytest.mark.parametrize("name", ["mean", "std"])
def test_predictions_that_do_not_fit_the_labels_are_named(
    results: Results, write_run: WriteRun, tmp_path: Path, name: str
) -> None:
    first, last = results.rounds["random"][1][:2]
    damaged = (first, replace(last, **{name: getattr(last, name)[:-1]}))
    write_run(results, tmp_path)
    arrays = {"mean": damaged[1].mean, "std": damaged[1].std}
    np.savez(tmp_path / "arms" / "random" / "repeat-1" / "round-001" / "test_predictions.npz", **arrays)
    with pytest.raises(InputError, match=r"\(20, 1\), but got \(19, 1\) in .*round-001; .*restore it from a copy"):
        write_figures(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half", b"\x00\xff\x17"])
@pytest.mark.parametrize("name", ["metrics.json", "selection.json", "test_predictions.npz", "truth.npz"])
def test_a_damaged_file_is_named(
    results: Results, write_run: WriteRun, tmp_path: Path, name: str, damage: bytes
) -> None:
    write_run(results, tmp_path)
    path = sorted(tmp_path.rglob(name))[0]
    path.write_bytes(damage)
    with pytest.raises(InputError, match=rf"{path if name == 'truth.npz' else path.parent} must be .* restore it from"):
        load_results(tmp_path)


def test_a_damaged_campaign_file_is_named(results: Results, write_run: WriteRun, tmp_path: Path) -> None:
    write_run(results, tmp_path)
    (tmp_path / "campaign.yaml").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"campaign.yaml must be a resolved campaign but got no YAML; restore it"):
        load_results(tmp_path)


def test_nothing_to_show_is_said(results: Results, write_run: WriteRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold campaign.yaml"):
        write_figures(tmp_path)
    write_run(replace(results, rounds={}), tmp_path)
    with pytest.raises(InputError, match="at least one evaluated round"):
        write_figures(tmp_path)
    assert not (tmp_path / "report").exists()


def test_there_are_no_half_labels(results: Results) -> None:
    figure = learning_curve(results)
    FigureCanvasAgg(figure).draw()
    counts = [label.get_text() for axes in (figure.axes[0], figure.axes[-1]) for label in axes.get_xticklabels()]
    assert counts
    assert not [text for text in counts if "." in text]
