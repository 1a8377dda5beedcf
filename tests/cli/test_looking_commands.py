"""Commands that look into run directories and change nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest

from activeph import build as activeph_build
from activeph.targets import EV_PER_A3_IN_GPA


@pytest.fixture
def run(finished_run: Path, folder: Path) -> Path:
    """A finished run that a test may spoil."""
    return Path(shutil.copytree(finished_run, folder / "runs" / "tiny"))


def _first_label(run: Path) -> Path:
    return next(path.parent for path in sorted(run.glob("labels/*/*/label.json")))


def test_compare_shows_a_row_per_run_arm_and_target(activeph, run: Path, folder: Path) -> None:
    shutil.copytree(run, folder / "other")
    answer = activeph("compare", "runs/tiny", "other")
    assert answer.code == 0
    assert sum("active-phonon" in line for line in answer.out.splitlines()) == 4  # two runs, two targets
    assert activeph("compare", "runs/tiny", "nowhere").code == 2


def test_report_names_the_page_and_gives_the_answer(activeph, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activeph_build, "draw_report", lambda paths: paths.report / "report.html")
    answer = activeph("report", "runs/tiny")
    assert answer.code == 0
    assert answer.out.startswith(f"{run / 'report' / 'report.html'}\n")
    assert "active-phonon" in answer.out


def test_phonons_from_the_run(activeph, run: Path, folder: Path) -> None:
    answer = activeph("phonons", "tiny.yaml", "--picture", "p.png")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("Cu: 21 modes in ")
    assert lines[0].endswith("0 imaginary")
    assert lines[2].startswith("  rms displacement at 300 K (quantum): Cu 0.")
    assert (folder / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_phonons_before_the_run(activeph, folder: Path) -> None:
    answer = activeph("phonons", "tiny.yaml")
    assert answer.code == 2
    assert "Cu must have force constants but got none in" in answer.err


def test_the_ledger_is_listed_and_verified(activeph, run: Path) -> None:
    listed = activeph("ledger", "list", "runs/tiny")
    labels = list(run.glob("labels/*/*/label.json"))
    assert len(listed.out.splitlines()) == len(labels) + 1
    assert listed.out.splitlines()[-1].startswith(f"{len(labels)} labels, 0 failures in ")
    assert activeph("ledger", "verify", "runs/tiny").out == f"{len(labels)} records are whole\n"


def test_all_labels_are_exported(activeph, run: Path) -> None:
    labels = list(run.glob("labels/*/*/label.json"))
    answer = activeph("ledger", "export", "runs/tiny", "-o", "all.extxyz")
    assert answer.code == 0, answer.err
    assert len(ase.io.read("all.extxyz", index=":")) == len(labels)
    assert answer.out.endswith(f"{len(labels)} labels\n")


def test_damage_is_found(activeph, run: Path) -> None:
    arrays = _first_label(run) / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"\x00\x01")
    verified = activeph("ledger", "verify", "runs/tiny")
    assert verified.code == 1
    assert str(arrays.parent) in verified.out
    examined = activeph("doctor", "runs/tiny")
    assert examined.code == 1
    assert "✗ All labels are whole" in examined.out
    assert "✓ The journal can be read" in examined.out


def test_a_healthy_run_has_no_findings(activeph, run: Path) -> None:
    answer = activeph("doctor", "runs/tiny")
    assert (answer.code, answer.err) == (0, "")
    assert "✗" not in answer.out


@pytest.mark.parametrize(
    ("harm", "title"),
    [
        (lambda run: shutil.rmtree(_first_label(run)), "Every label that the journal counts is in the ledger"),
        (lambda run: [path.unlink() for path in run.glob("arms/random/*/*/member-*")], "Every trained model is there"),
        (lambda run: (run / "journal.jsonl").unlink(), "The journal can be read"),
        (lambda run: (run / "journal.jsonl").write_text("x\n{}\n"), "The journal can be read"),
        (
            lambda run: (run / "labels" / "00").mkdir(exist_ok=True) or (run / "labels" / "00" / ".half").touch(),
            "No half-written files lie about",
        ),
        (
            lambda run: (run / "lock").write_text('{"host": "elsewhere", "pid": 1}'),
            "The lock is free or held on this host",
        ),
    ],
)
def test_harm_is_found(activeph, run: Path, harm, title: str) -> None:
    harm(run)
    answer = activeph("doctor", "runs/tiny")
    assert answer.code == 1
    assert f"✗ {title}" in answer.out


def test_other_versions_are_named(activeph, run: Path) -> None:
    campaign = run / "campaign.yaml"
    campaign.write_text(campaign.read_text().replace("  numpy: ", "  numpy: 0.0.1 # "))
    assert "numpy was 0.0.1 and is " in activeph("doctor", "runs/tiny").out


def test_logs_of_a_label_and_of_a_failure(activeph, run: Path) -> None:
    folder = _first_label(run)
    (folder / "output.txt").write_text("\n".join(f"line {n}" for n in range(60)))
    answer = activeph("logs", "runs/tiny", folder.name[:10])
    assert answer.code == 0
    assert answer.out.startswith(f"{folder.name}\n{folder}\nenergy: ")
    assert "--- output.txt (last 40 of 60 lines)\nline 20\n" in answer.out
    assert "line 0\n" in activeph("logs", "runs/tiny", folder.name, "--all").out
    facts = {"kind": "unconverged", "message": "no luck", "provenance": {"wall_time": 2.5}}
    (folder / "label.json").unlink()
    (folder / "failure.json").write_text(json.dumps(facts))
    assert "kind: unconverged\nmessage: no luck\nwall_time: 2.5\n" in activeph("logs", "runs/tiny", folder.name).out


def test_logs_need_one_key(activeph, run: Path) -> None:
    assert "got 'zz'; 'activeph ledger list' shows them" in activeph("logs", "runs/tiny", "zz").err
    assert "keys share; give more digits" in activeph("logs", "runs/tiny", "").err
    assert activeph("ledger", "list", "nowhere").code == 2


def test_predict_finds_the_test_set_as_the_report_did(activeph, run: Path, folder: Path) -> None:
    activeph("export", "runs/tiny", "-o", "d.extxyz")
    frames = ase.io.read("d-test.extxyz", index=":")
    for atoms in frames[1:]:
        atoms.positions += atoms.cell.array[0]  # another image of the same crystal
    ase.io.write("moved.extxyz", frames)
    answer = activeph("predict", "runs/tiny", "moved.extxyz", "-o", "p.csv")
    assert answer.out == "p.csv: 4 structures by active-phonon, repeat 0, round 1\n"
    rows = list(csv.reader((folder / "p.csv").read_text().splitlines()))
    head = ["structure", "system", "energy_per_atom (meV)", "energy_per_atom_std", "hydrostatic_stress (GPa)"]
    assert rows[0] == [*head, "hydrostatic_stress_std"]
    predicted = np.array([[float(row[2]), float(row[4])] for row in rows[1:]])
    truth = np.array([[1000 * atoms.info["energy_per_atom"], atoms.info["hydrostatic_stress"]] for atoms in frames])
    truth[:, 1] *= EV_PER_A3_IN_GPA
    metrics = json.loads((run / "arms/active-phonon/repeat-0/round-001/metrics.json").read_text())
    for column, name in enumerate(("energy_per_atom", "hydrostatic_stress")):
        error = np.abs(predicted - truth)[:, column].mean()
        assert error == pytest.approx(metrics["targets"][name]["mae"], rel=1e-4)


def test_predict_refuses_what_does_not_fit(activeph, run: Path) -> None:
    wrong = activeph("predict", "runs/tiny", "Cu.vasp")
    assert wrong.code == 2
    assert "structure 0 of FILE must have the atoms of a supercell in its order but got 1 atoms that fit" in wrong.err
    unknown = activeph("predict", "runs/tiny", "Cu.vasp", "--arm", "x")
    assert "must name a trained ensemble but got x 0; there are: active-phonon 0, random 0" in unknown.err
    assert "FILE must be an existing file but got no.xyz" in activeph("predict", "runs/tiny", "no.xyz").err
