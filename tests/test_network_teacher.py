"""A campaign's networks renormalise the phonons of the next one, without any other forces."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from activeph.build import run_campaign
from activeph.cli.phonons import command
from activeph.progress import NoProgress

DATA = Path(__file__).parent / "data" / "kbr"
PHONON = str(DATA / "phonon.extxyz")
SYSTEM = {
    "name": "KBr",
    "structure": str(DATA / "KBr.vasp"),
    "supercell": [2, 2, 2],
    "force_constants": str(DATA / "phonopy_params.yaml"),
}


def written(path: Path, **changes: Any) -> Path:
    """Write a campaign on labels from a file: one arm, a small network."""
    content = {
        "name": path.stem,
        "systems": [SYSTEM],
        "arms": {"phonon": {"sample": {"kind": "replay", "file": PHONON}, "select": "random"}},
        "baseline": "phonon",
        "label": {"kind": "replay", "files": [PHONON]},
        "targets": ["energy_per_atom"],
        "model": {"kind": "gnn", "members": 2, "steps": 120, "hidden": 12, "device": "cpu"},
        "budget": {"labels": 50, "initial": 50, "batch": 10, "repeats": 1},
        "test": {"sample": {"kind": "replay", "file": PHONON}, "n": 10},
        "execute": "serial",
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_trained_network_renormalises_phonons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    run_campaign(written(tmp_path / "teacher.yaml"), tmp_path / "a", NoProgress())
    members = sorted(str(path) for path in (tmp_path / "a" / "arms").rglob("member-*.pt"))
    assert len(members) == 2
    calculator = {
        "kind": "ase",
        "calculator": "activeph.models.calculator:NetworkCalculator",
        "arguments": {"members": members},
    }
    sampler = {"kind": "phonon", "imaginary": "renormalise"}
    pupil = written(
        tmp_path / "pupil.yaml",
        systems=[{**SYSTEM, "renormalise": {"label": calculator, "frequency_tolerance": 0.1}}],
        temperatures=[300],
        arms={"phonon": {"sample": sampler, "select": "random"}},
        test={"sample": sampler, "n": 10},
    )
    second = CliRunner().invoke(command, [str(pupil), "--compute", "--output", str(tmp_path / "b")])
    assert second.exit_code == 0, second.output
    lowest, highest = map(
        float, re.findall(r"renormalised at 300 K: ([\d.]+) to ([\d.]+) THz, 0 imag", second.output)[0]
    )
    assert lowest == pytest.approx(1.07, rel=0.1)  # with the forces of GFN2-xTB themselves: 1.07 to 3.05 THz
    assert highest == pytest.approx(3.05, rel=0.2)
    labels = [json.loads(path.read_text()) for path in (tmp_path / "b" / "labels").rglob("label.json")]
    assert len(labels) >= 16
    assert all("NetworkCalculator" in json.dumps(label) for label in labels)
