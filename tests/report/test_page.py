"""The page, its tables and the comparison of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from activeph.records import Configuration, Entry, Label, System
from activeph.report.answer import answer
from activeph.report.calibration import LEVELS, observed_shares
from activeph.report.compare import compare
from activeph.report.distributions import by_arm, rms_displacement
from activeph.report.page import page, write_report
from activeph.report.results import Picked, Results
from activeph.report.tables import final_table, savings_table, settings_table, spending_table

Simulate = Callable[..., Results]
WriteRun = Callable[[Results, Path], Path]
CUBE = Configuration(np.array([11, 17]), np.array([[0.0, 0, 0], [2, 2, 2]]), np.eye(3) * 4)


def small(simulate: Simulate, **changes: object) -> Results:
    curves = {"<b>active": lambda n: 1 / n**0.5, "random": lambda n: 2 / n**0.5}
    settings = {"labels": (10, 20), "repeats": 2, "structures": 30, "targets": ("band_gap", "energy_per_atom")}
    return simulate(curves, **{**settings, **changes})


def entry(arms: tuple[str, ...], shift: float, split: str = "train") -> Entry:
    positions = CUBE.positions + [[0, 0, 0], [shift, 0, 0]]
    bands = np.zeros((1, 1, 2))
    configuration = Configuration(CUBE.numbers, positions, CUBE.cell)
    known = {"wall_time": 1800.0}
    label = Label(configuration, -8.0 + shift, np.zeros((2, 3)), np.zeros(6), 5.0, 5.0, -5.0, 0.0, bands, bands, known)
    return Entry(f"{shift:.3f}", label, "KBr", 300.0, "x", arms, split)


class Reader(HTMLParser):
    """Collects what a page loads, and checks that its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_stands_alone_and_is_well_formed(simulate: Simulate, write_run: WriteRun, tmp_path: Path) -> None:
    results = small(simulate)
    unit_cell = System("KBr", CUBE, CUBE, np.eye(3, dtype=int), np.eye(3), np.ones(2), np.arange(2))
    entries = [entry(("random",), 0.1), entry((), 0.3, "test"), entry(("<b>active", "random"), 0.2)]
    path = write_report(write_run(results, tmp_path), entries, {"KBr": unit_cell})
    assert path == tmp_path / "report" / "report.html"
    text = path.read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.sources) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in reader.sources)
    assert "<b>" not in text
    assert "&lt;b&gt;active" in text
    for part in ("Labels saved at equal error", "miscal. area", "What the labels were spent on", "arms.random", "300"):
        assert part in text, part
    again = write_report(tmp_path, entries, {"KBr": unit_cell})
    assert again.read_text() == text


def test_savings_table_says_what_the_sentences_say(simulate: Simulate) -> None:
    results = small(simulate, repeats=3)
    table = savings_table(results)
    assert len(table.rows) == 4
    assert all(len(row) == len(table.head) for row in table.rows)
    saved = table.rows[0][4]
    assert f"{saved} labels saved" in answer(results)


def test_one_repeat_is_shown_without_spread(simulate: Simulate, write_run: WriteRun, tmp_path: Path) -> None:
    results = small(simulate, repeats=1)
    text = page(results, (), {}) + compare([write_run(results, tmp_path)])
    for pretence in ("±", "1 repeats", "repeats of"):
        assert pretence not in text.replace("± half range", ""), pretence
    assert "with 1 repeat of 20 labels" in text


def test_final_table_has_all_temperatures(simulate: Simulate) -> None:
    results = small(simulate)
    table = final_table(results)
    assert {row[2] for row in table.rows} == {"all", "150", "300", "450", "600"}
    assert all(len(row) == len(table.head) for row in table.rows)
    whole = next(row for row in table.rows if row[1] == "random" and row[2] == "all")
    last = [rounds[-1].mean[:, 0] for rounds in results.rounds["random"].values()]
    expected = np.mean([np.abs(mean - results.truth[:, 0]).mean() for mean in last])
    assert float(whole[3]) == pytest.approx(expected, rel=5e-3)


def test_spending_counts_calculations_once(simulate: Simulate) -> None:
    results = small(simulate, labels=(2,), repeats=1)
    shared = Picked("a", "KBr", 300.0, "0.100", 0.1)
    own = Picked("b", "KBr", 300.0, "0.200", 0.1)
    rounds = {
        "<b>active": {0: (replace(results.rounds["random"][0][0], picked=(shared, own), failures=1),)},
        "random": {0: (replace(results.rounds["random"][0][0], picked=(shared,)),)},
    }
    entries = [entry(("random",), 0.1)]
    table = spending_table(replace(results, rounds=rounds), entries)
    assert table.rows[0] == ("<b>active", "1", "2", "1", "2", "1", "-", "0.5")
    assert table.rows[1][-4:] == ("1", "1", "-", "0.5")
    assert spending_table(replace(results, rounds=rounds)).rows[0][-1] == "not read"


def test_settings_are_flattened() -> None:
    campaign = {"name": "x", "systems": [{"name": "KBr"}], "label": {"kind": "xtb", "mode": {}}, "list": [1, 2]}
    rows = settings_table(campaign).rows
    assert rows == (
        ("name", "x"),
        ("systems.0.name", "KBr"),
        ("label.kind", "xtb"),
        ("label.mode", "{}"),
        ("list", "[1, 2]"),
    )


def test_rms_displacement_ignores_shift_image_and_strain() -> None:
    moved = CUBE.positions + [[0.3, 0, 0], [-0.3, 0, 0]]
    for shift in (0.0, 1.9, -7.3):
        for images in ([[0, 0, 0], [0, 0, 0]], [[4, 0, 0], [0, -8, 4]]):
            configuration = Configuration(CUBE.numbers, moved + shift + np.array(images), CUBE.cell)
            assert rms_displacement(configuration, CUBE) == pytest.approx(0.3)
    strained = Configuration(CUBE.numbers, CUBE.positions * 1.1, CUBE.cell * 1.1)
    assert rms_displacement(strained, CUBE) == pytest.approx(0.0, abs=1e-12)


def test_labels_by_arm() -> None:
    entries = [entry(("a", "b"), 0.1), entry(("b",), 0.2), entry((), 0.3, "test")]
    groups = by_arm(entries, ["a", "b", "c"])
    assert {name: [one.key for one in found] for name, found in groups.items()} == {
        "a": ["0.100"],
        "b": ["0.100", "0.200"],
        "test set": ["0.300"],
    }


def test_calibration_curve_of_normal_errors_is_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, size=40_000)
    shares = observed_shares(std * rng.normal(size=len(std)), std)
    assert np.abs(shares - LEVELS).max() < 0.01


def test_comparison_warns_of_different_test_sets(simulate: Simulate, write_run: WriteRun, tmp_path: Path) -> None:
    one = write_run(small(simulate), tmp_path / "one")
    same = write_run(small(simulate), tmp_path / "same")
    other = write_run(small(simulate, seed=5), tmp_path / "other")
    assert "different test sets" not in compare([one, same])
    text = compare([one, other])
    assert "different test sets" in text
    lines = text.splitlines()
    assert len(lines) == 2 + 2 * 2 * 2 + 1
    assert lines[2].startswith("one")
    assert "baseline" in text
