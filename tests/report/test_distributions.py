from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from activeph.build import run_campaign
from activeph.cli.status import command as status
from activeph.progress import NoProgress
from activeph.records import Configuration, Entry, Label, System
from activeph.report.distributions import broadness_table
from activeph.report.results import Results, load_results
from activeph.report.tables import spending_table

DATA = Path(__file__).parents[1] / "data" / "kbr"
CUBE = Configuration(np.array([11, 17]), np.array([[0.0, 0, 0], [2, 2, 2]]), np.eye(3) * 4)


def _entry(key: str, arms: tuple[str, ...], shift: float, split: str = "train") -> Entry:
    configuration = Configuration(CUBE.numbers, CUBE.positions + [[0, 0, 0], [shift, 0, 0]], CUBE.cell)
    bands = np.zeros((1, 1, 2))
    label = Label(configuration, -8.0 + shift, np.zeros((2, 3)), np.zeros(6), 5.0, 5.0, -5.0, 0.0, bands, bands, {})
    return Entry(key, label, "NaCl", 300.0, key, arms, split)


def test_pools_labels_and_test_set_are_told_apart(simulate: Callable[..., Results]) -> None:
    results = simulate({"active": lambda n: 1 / n, "random": lambda n: 1 / n}, labels=(2, 4), repeats=1)
    first, later = (results.rounds["active"][0][round_].picked[:2] for round_ in (0, 1))
    rounds = tuple(replace(one, picked=one.picked[:2]) for one in results.rounds["active"][0])
    results = replace(results, rounds={**results.rounds, "active": {0: rounds}})
    entries = [
        *(_entry(pick.key, ("active",), shift) for pick, shift in zip(first, (0.1, 0.2), strict=True)),
        *(_entry(pick.key, ("active",), shift) for pick, shift in zip(later, (0.5, 0.6), strict=True)),
        _entry("test", (), 0.3, "test"),
    ]
    system = System("NaCl", CUBE, CUBE, np.eye(3, dtype=int), np.eye(3), np.ones(2), np.arange(2))
    rows = {row[1]: row[2:] for row in broadness_table(results, entries, {"NaCl": system}).rows}
    assert list(rows) == ["test set", "active, pool", "active, all labels"]
    # one atom of two shifted by s: both s/2 from their common centre; 1000 s / 2 meV per atom above that of 0.1
    assert rows["test set"][:2] == ("1", "0.150")
    assert float(rows["test set"][3]) == pytest.approx(100.0)
    assert rows["active, pool"][:2] == ("2", "0.075")
    assert rows["active, all labels"][:2] == ("4", "0.175")
    without = {row[1]: row[2:] for row in broadness_table(results, entries, {}).rows}
    assert without["test set"][1:3] == ("-", "-")


def test_what_guards_refuse_is_in_journal_status_and_report(tmp_path: Path) -> None:
    tight = {"kind": "phonon", "largest_displacement": 0.9}
    mixed = {"kind": "mixture", "parts": [{"sample": tight}, {"sample": "phonon"}]}
    replayed = {"kind": "replay", "file": str(DATA / "phonon.extxyz")}
    content: dict[str, Any] = {
        "name": "guarded",
        "systems": [
            {
                "name": "KBr",
                "structure": str(DATA / "KBr.vasp"),
                "supercell": [2, 2, 2],
                "force_constants": str(DATA / "phonopy_params.yaml"),
            }
        ],
        "temperatures": [600],
        "targets": ["energy_per_atom"],
        "arms": {
            "tight": {"sample": tight, "select": "random"},
            "mixed": {"sample": mixed, "select": "random"},
            "free": {"sample": "phonon", "select": "random"},
            "file": {"sample": replayed, "select": "random"},
        },
        "baseline": "free",
        "label": {
            "kind": "ase",
            "calculator": "ase.calculators.lj:LennardJones",
            "arguments": {"sigma": 2.9, "rc": 6.0, "smooth": True},
        },
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 4, "initial": 4, "batch": 4, "repeats": 1},
        "pool": 300,
        "test": {"n": 4},
        "execute": "serial",
    }
    path, run = tmp_path / "campaign.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(content))
    run_campaign(path, run, NoProgress())
    results = load_results(run)
    shares = {arm: results.rounds[arm][0][0].refused for arm in results.rounds}
    assert 0.05 < shares["mixed"] < shares["tight"] < 0.95
    assert shares["free"] < 0.01
    assert shares["file"] == 0
    shown = {row[0]: row[-2] for row in spending_table(results).rows}
    assert shown["tight"] == f"{shares['tight']:.1%}"
    assert shown["file"] == "0.0%"
    assert "draws refused by guards" in (run / "report" / "report.html").read_text()
    said = CliRunner().invoke(status, [str(run)], catch_exceptions=False).output
    assert f"guards refused {shares['tight']:.1%} of the draws of tight" in said
    assert "of the draws of file" not in said
    facts = json.loads(CliRunner().invoke(status, [str(run), "--json"], catch_exceptions=False).output)
    assert facts["arms"]["tight"][0]["refused"] == pytest.approx(shares["tight"])
    assert facts["arms"]["file"][0]["refused"] == 0
