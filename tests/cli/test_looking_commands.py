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
from activeph.state import fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger
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
    assert "±" not in answer.out.partition("\n")[2]  # one repeat has no spread
    assert activeph("compare", "runs/tiny", "nowhere").code == 2


RUN = "run", "tiny.yaml", "--output"
COMMANDS = [("status",), ("report",), ("plot",), ("doctor",), ("compare",), ("export", "-o", "x"), RUN]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_run_that_lost_its_campaign_file_is_known(activeph, folder: Path, words: tuple[str, ...]) -> None:
    (folder / "runs" / "tiny").mkdir(parents=True)
    (folder / "runs" / "tiny" / "journal.jsonl").touch()
    answer = activeph(*words, "runs/tiny")
    assert answer.code == 2
    assert "runs/tiny/campaign.yaml must be there, with all that the run was begun with, but got none; " in answer.err
    assert f"'ledger: {folder}/runs/tiny/labels' that pays no label twice" in answer.err


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
    assert lines[0] == "Cu: force constants of runs/tiny/systems/Cu/phonopy_params.yaml in a supercell of 8 atoms"
    assert lines[1].startswith("Cu: 21 modes in ")
    assert lines[1].endswith("0 imaginary")
    assert lines[3].startswith("  rms displacement at 300 K (quantum): Cu 0.")
    assert (folder / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_phonons_before_the_run(activeph, folder: Path) -> None:
    answer = activeph("phonons", "tiny.yaml")
    assert answer.code == 2
    assert "Cu must have force constants but got none in" in answer.err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "[2, 2, 2]",
            "[3, 2, 2]",
            "systems.Cu.supercell must stay [[2, 0, 0], [0, 2, 0], [0, 0, 2]], as runs/tiny was",
        ),
        ("EMT}", "EMT, arguments: {asap_cutoff: true}}", "label.arguments.asap_cutoff must stay nothing, as runs/tiny"),
        (
            "Cu.vasp",
            "Cu2/Cu.vasp",
            "the file under systems.Cu.structure must stay what runs/tiny was begun with but got",
        ),
    ],
)
def test_phonons_of_another_campaign_of_the_same_name_are_refused(
    activeph, run: Path, folder: Path, old: str, new: str, words: str
) -> None:
    (folder / "Cu2").mkdir()
    (folder / "Cu2" / "Cu.vasp").write_text((folder / "Cu.vasp").read_text().replace("1.8", "1.9"))
    text = (folder / "tiny.yaml").read_text()
    (folder / "tiny.yaml").write_text(text.replace(old, new))
    answer = activeph("phonons", "tiny.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"activeph: {words}")
    assert answer.err.count("\n") == 1


def test_the_ledger_is_listed_and_verified(activeph, run: Path) -> None:
    listed = activeph("ledger", "list", "runs/tiny")
    labels = list(run.glob("labels/*/*/label.json"))
    assert len(listed.out.splitlines()) == len(labels) + 2
    assert listed.out.split("\n", 1)[0].split("  ")[0] == "key"
    assert all(f" {unit} " in listed.out.split("\n", 1)[0] for unit in ("(eV)", "(s)"))
    row = next(line for line in listed.out.splitlines() if line.startswith(labels[0].parent.name[:12]))
    assert row.split()[1:3] == ["label", f"{json.loads(labels[0].read_text())['energy']:.6f}"]
    assert listed.out.splitlines()[-1].startswith(f"{len(labels)} labels, 0 failures in ")
    assert activeph("ledger", "verify", "runs/tiny").out == f"{len(labels)} records, all whole\n"


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
    assert "✗ Labels on disk" in examined.out
    assert "✓ Journal" in examined.out
    assert "must be whole but got 1 finding;" in examined.err


def _test_key(run: Path) -> str:
    test = fold(Journal(run / "journal.jsonl").events()).test
    assert test is not None
    return test[0].key


def test_a_healthy_run_has_no_findings(activeph, run: Path) -> None:
    answer = activeph("doctor", "runs/tiny")
    assert (answer.code, answer.err) == (0, "")
    assert "✗" not in answer.out


@pytest.mark.parametrize(
    ("harm", "title"),
    [
        (lambda run: shutil.rmtree(run / "labels"), "Labels that the journal counts"),
        (lambda run: shutil.rmtree(Ledger(run / "labels").directory(_test_key(run))), "Labels that the journal counts"),
        (lambda run: [path.unlink() for path in run.glob("arms/random/*/*/member-*")], "Trained models"),
        (lambda run: max(run.glob("arms/random/*/*/member-1.pt")).unlink(), "Trained models"),
        (lambda run: max(run.glob("arms/random/*/*/metrics.json")).unlink(), "Files of finished rounds"),
        (lambda run: (run / "journal.jsonl").unlink(), "Journal"),
        (lambda run: (run / "journal.jsonl").write_text("x\n{}\n"), "Journal"),
        (lambda run: (run / "journal.jsonl").write_text("{}\n"), "Journal"),
        (
            lambda run: (run / "lock").write_text('{"host": "elsewhere", "pid": 1}'),
            "Lock",
        ),
    ],
)
def test_harm_is_found(activeph, run: Path, harm, title: str) -> None:
    harm(run)
    answer = activeph("doctor", "runs/tiny")
    assert answer.code == 1
    assert f"✗ {title}" in answer.out


def test_what_a_killed_process_leaves_is_a_note(activeph, run: Path) -> None:
    shelf = run / "labels" / "00"
    shelf.mkdir(exist_ok=True)
    (shelf / ".half").touch()
    answer = activeph("doctor", "runs/tiny")
    assert (answer.code, answer.err) == (0, "")
    assert "✗" not in answer.out
    assert (
        f"· Leftovers of stopped processes\n    1 half-written file or folder, {shelf}/.half: harmless;" in answer.out
    )
    (shelf / ".other").touch()
    assert "    2 half-written files or folders, such as " in activeph("doctor", "runs/tiny").out


def test_a_record_under_a_foreign_key_is_found(activeph, run: Path) -> None:
    record = _first_label(run) / "label.json"
    record.write_text(record.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    verified = activeph("ledger", "verify", "runs/tiny")
    assert verified.code == 1
    assert f"{record.parent} must be named by its configuration and fingerprint" in verified.out


def test_finished_calculations_are_imported_and_a_run_finds_them(activeph, run: Path, folder: Path) -> None:
    activeph("ledger", "export", "runs/tiny", "-o", "all.extxyz")
    frames = ase.io.read("all.extxyz", index=":")
    for atoms in frames:
        atoms.info["energy"], atoms.arrays["forces"] = atoms.info.pop("REF_energy"), atoms.arrays.pop("REF_forces")
    ase.io.write("done.extxyz", frames)
    answer = activeph("ledger", "import", "new", "done.extxyz", "--campaign", "tiny.yaml")
    assert (answer.code, answer.out) == (0, f"{len(frames)} labels added, 0 known, 0 refused\n")
    assert activeph("ledger", "import", "new", "done.extxyz", "--campaign", "tiny.yaml").out.startswith(
        "0 labels added"
    )
    assert {path.name for path in (folder / "new/labels").glob("??/*")} == {
        path.name for path in run.glob("labels/??/*")
    }
    assert activeph("ledger", "import", "Cu.vasp/x", "done.extxyz").code == 2


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
    energy = json.loads((folder / "label.json").read_text())["energy"]
    assert f"\nenergy: {energy:.6f} eV\n" in answer.out
    assert "\nband_gap: unknown\n" in answer.out
    assert "sha256" not in answer.out
    assert "--- output.txt (last 40 of 60 lines)\nline 20\n" in answer.out
    assert "line 0\n" in activeph("logs", "runs/tiny", folder.name, "--all").out
    facts = {"kind": "unconverged", "message": "no luck", "provenance": {"wall_time": 2.5}}
    (folder / "label.json").unlink()
    (folder / "failure.json").write_text(json.dumps(facts))
    assert "kind: unconverged\nmessage: no luck\nwall_time: 2.5 s\n" in activeph("logs", "runs/tiny", folder.name).out


def test_logs_need_one_key(activeph, run: Path) -> None:
    assert "got 'zz', which 0 share; 'activeph ledger list' shows them" in activeph("logs", "runs/tiny", "zz").err
    assert "share; give more digits" in activeph("logs", "runs/tiny", "").err
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


def test_predict_names_an_ensemble_of_another_version(activeph, run: Path) -> None:
    activeph("export", "runs/tiny", "-o", "d.extxyz")
    for member in run.glob("arms/active-phonon/*/*/member-*.pt"):
        member.write_bytes(b"what another version wrote")
    answer = activeph("predict", "runs/tiny", "d.extxyz")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "can read but got" in answer.err
    campaign = run / "campaign.yaml"
    campaign.write_text(campaign.read_text().replace("model:\n", "model:\n  layers_of_old: 3\n"))
    answer = activeph("predict", "runs/tiny", "d.extxyz")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
