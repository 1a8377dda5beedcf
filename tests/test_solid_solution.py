"""A solid solution from the first label to the last, tested on atoms that one arm has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import write
from click.testing import CliRunner

from activeph.build import run_campaign
from activeph.cli.predict import command
from activeph.progress import NoProgress
from activeph.rundir import RunDirectory
from activeph.state import fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger

SOLUTION = {"kind": "disorder", "replace": "Cu", "by": "Au", "composition": [0.1, 1.0]}


def test_an_arm_without_the_second_element_is_tested_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", a=3.594, cubic=True))
    content = {
        "name": "solution",
        "systems": [{"structure": "Cu.vasp", "supercell": [1, 1, 1]}],
        "targets": ["energy_per_atom", "stress"],
        "temperatures": [200, 400],
        "pool": 40,
        "label": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        "model": {"members": 2, "gnn": {"steps": 4, "hidden": 4, "cutoff": 4.0}},
        "budget": {"labels": 9, "initial": 6, "batch": 3, "repeats": 1},
        "test": {"n": 5, "sample": SOLUTION},
        "execute": "serial",
        "arms": {
            "solution": {"sample": SOLUTION, "select": {"kind": "quota", "using": "lcmd"}},
            "random": {"sample": "phonon", "select": "random"},
        },
    }
    (tmp_path / "solution.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    run_campaign(tmp_path / "solution.yaml", tmp_path / "run", NoProgress())
    directory = RunDirectory(tmp_path / "run")
    state, ledger = fold(Journal(directory.journal).events()), Ledger(directory.labels)
    gold = {
        step.arm: [np.sum(ledger.get(pick.key).configuration.numbers == 79) for pick in picks]
        for step, picks in state.picks.items()
    }
    assert min(gold["solution"]) > 0
    assert max(gold["random"]) == 0
    assert {step.round for step in state.evaluated} == {0, 1}
    for record in state.evaluated.values():
        assert all(np.isfinite(numbers["mae"]) for numbers in record["targets"].values())
    crystal = bulk("Cu", "fcc", a=3.594, cubic=True)
    half, other = crystal.copy(), crystal.copy()
    half.numbers[[1, 2]], other.numbers[0] = 79, 47
    write(tmp_path / "some.extxyz", [crystal, half])
    write(tmp_path / "other.extxyz", [other])
    said = CliRunner().invoke(command, [str(tmp_path / "run"), str(tmp_path / "some.extxyz")])
    assert [line.split(",")[1] for line in said.output.splitlines()[1:]] == ["Cu", "Cu"]
    refused = CliRunner().invoke(command, [str(tmp_path / "run"), str(tmp_path / "other.extxyz")])
    assert "4 atoms that fit none of Cu (4 atoms)" in str(refused.exception)
