"""Commands on a real, tiny campaign: copper by effective medium theory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from activeph import build as activeph_build
from activeph.cli import init
from activeph.cli.init import suggest_supercell
from activeph.cli.main import group
from activeph.config import load_campaign
from activeph.report import figures


def test_a_campaign_from_the_first_command_to_the_last(activeph, folder: Path) -> None:
    checked = activeph("check", "tiny.yaml")
    assert checked.code == 0
    assert "tiny.yaml: the file is valid" in checked.out
    assert "Cu: Cu, supercell of 8 atoms" in checked.out
    assert not (folder / "runs").exists()  # nothing is written

    first = activeph("run", "tiny.yaml")
    assert first.code == 0
    assert f"{folder}/runs/tiny/report" in first.out

    again = activeph("run", "tiny.yaml")
    assert again.code == 0
    assert again.out.startswith("tiny is complete: nothing to do.")
    assert first.out.strip().splitlines()[-1] == again.out.strip().splitlines()[-1]

    facts = json.loads(activeph("status", "runs/tiny", "--json").out)
    assert facts["schema"] == "activeph-status-2"
    assert facts["state"] == "complete"
    assert facts["labels"] == {"done": 12, "failed": 0, "running": 0, "queued": 0}
    assert [repeat["labels"]["done"] for repeats in facts["arms"].values() for repeat in repeats] == [4, 4]
    assert all(repeat["finished"] for repeats in facts["arms"].values() for repeat in repeats)
    table = activeph("status", "runs/tiny").out
    assert table.startswith("tiny: complete, round 1\n")
    assert "4/4 ✓" in table

    assert (folder / "runs/tiny/report/learning-curve.svg").exists()

    for file_format, ending in (("extxyz", "extxyz"), ("ase-db", "db"), ("hdf5", "hdf5")):
        exported = activeph("export", "runs/tiny", "--format", file_format, "-o", f"data.{ending}")
        assert exported.code == 0, exported.err
        assert (folder / f"data.{ending}").exists()
        assert "4 test" in exported.out


def test_plot_names_what_it_drew(activeph, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "write_figures", lambda directory, costs: [directory / "report" / "a.png"])
    assert activeph("plot", "runs/tiny").out == "runs/tiny/report/a.png\n"
    assert activeph("plot", "nowhere").code == 2


def test_run_passes_the_output_on(activeph, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(activeph_build, "run_campaign", lambda *given: seen.append(given[:2]) or "the answer")
    assert activeph("run", "tiny.yaml", "--output", "elsewhere").out == "the answer\n"
    activeph("run", "tiny.yaml")
    assert seen == [(Path("tiny.yaml"), Path("elsewhere")), (Path("tiny.yaml"), None)]


@pytest.fixture
def run(finished_run: Path, folder: Path) -> Path:
    """A finished run that a test may spoil."""
    return Path(shutil.copytree(finished_run, folder / "runs" / "tiny"))


def test_run_strews_no_files_among_others(activeph, folder: Path) -> None:
    assert activeph("run", "tiny.yaml", "--output", "Cu.vasp").err == (
        "activeph: --output must be a folder but got the file Cu.vasp; choose another\n"
    )
    foreign = activeph("run", "tiny.yaml", "--output", ".")
    assert foreign.code == 2
    assert foreign.err.startswith("activeph: --output must be new, empty or a run directory but got . with other files")


def test_a_place_that_cannot_be_written_is_named(activeph, folder: Path) -> None:
    answer = activeph("run", "tiny.yaml", "--output", "Cu.vasp/run")
    assert answer.code == 2
    assert answer.err == (
        f"activeph: --output must lie in a folder but got Cu.vasp/run, and {folder}/Cu.vasp is a file; "
        "choose another place\n"
    )


def test_status_of_a_run_that_has_not_begun(activeph, folder: Path, run: Path) -> None:
    (folder / "run").mkdir()
    assert activeph("status", "run").err == (
        "activeph: DIR must be a run directory but got run without campaign.yaml; name one run, or run its campaign "
        "first\n"
    )
    assert activeph("status", "nowhere").code == 2
    (run / "journal.jsonl").unlink()
    facts = json.loads(activeph("status", "runs/tiny", "--json").out)
    assert (facts["state"], facts["step"], facts["round"]) == ("stopped", "preparing", None)


def test_status_names_what_comes_next(activeph, run: Path) -> None:
    journal = run / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    seen = []
    for n in range(len(lines)):
        journal.write_text("".join(lines[:n]))
        seen.append(json.loads(activeph("status", "runs/tiny", "--json").out)["step"])
    assert seen[0] == "preparing"
    assert set(seen[2:]) == {"labelling", "training", "testing", "proposing"}
    assert seen.index("labelling") < seen.index("training") < seen.index("testing") < seen.index("proposing")


def test_check_counts_without_trying(activeph) -> None:
    answer = activeph("check", "tiny.yaml", "--no-label")
    assert answer.out.splitlines()[2:] == [
        "arm active-phonon: at most 4 labels",
        "arm random: at most 4 labels",
        "test set: at most 4 labels",
        "force constants of Cu: at most 2 labels",
    ]


def test_check_refuses_targets_that_the_labeler_does_not_know(activeph, folder: Path) -> None:
    text = (folder / "tiny.yaml").read_text().replace("targets: [energy_per_atom, hydrostatic_stress]\n", "")
    (folder / "gap.yaml").write_text(text)
    answer = activeph("check", "gap.yaml")
    assert answer.code == 2
    assert answer.err.endswith(
        "activeph: labeler ase must give the target band_gap but got nan; remove it from targets\n"
    )


def test_check_tells_why_the_labeler_fails(activeph, folder: Path) -> None:
    text = (folder / "tiny.yaml").read_text().replace("ase.calculators.emt:EMT", "no.such:Thing")
    (folder / "wrong.yaml").write_text(text)
    answer = activeph("check", "wrong.yaml")
    assert answer.code == 2
    assert "label.calculator must be the import path of an ASE calculator but got 'no.such:Thing'" in answer.err


def test_check_opens_the_pools_where_force_constants_are_given(activeph, folder: Path, run: Path) -> None:
    constants = run / "systems/Cu/phonopy_params.yaml"
    text = (folder / "tiny.yaml").read_text().replace("[2, 2, 2]}", f"[2, 2, 2], force_constants: {constants}}}")
    (folder / "given.yaml").write_text(text)
    answer = activeph("check", "given.yaml", "--no-label")
    assert answer.code == 0
    assert "force constants of Cu" not in answer.out  # none to label
    assert "as read they miss the acoustic sum rule by 0.0%" in answer.out


def test_check_counts_the_labels_of_renormalised_phonons(activeph, folder: Path, run: Path) -> None:
    constants = run / "systems/Cu/phonopy_params.yaml"
    text = (folder / "tiny.yaml").read_text()
    keys = f"force_constants: {constants}, renormalise: {{draws: 5, max_rounds: 4}}"
    text = text.replace("[2, 2, 2]}", f"[2, 2, 2], {keys}}}").replace(
        "test: {n: 4}", "test: {n: 4, sample: {kind: phonon, imaginary: renormalise}}"
    )
    (folder / "hot.yaml").write_text(text)
    answer = activeph("check", "hot.yaml", "--no-label")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "renormalisation of Cu: at most 20 labels"


def test_init_writes_a_file_that_check_accepts(activeph, folder: Path) -> None:
    given = ["--set", "calculator=ase.calculators.emt:EMT", "--set", "arguments={asap_cutoff: true}"]
    answer = activeph("init", "--structure", "Cu.vasp", "--label", "ase", *given, "--labels", "30")
    assert answer.code == 0
    assert answer.out == "campaign.yaml written; next: activeph check campaign.yaml\n"
    campaign = load_campaign(folder / "campaign.yaml")
    assert (campaign.budget.labels, campaign.budget.initial, campaign.budget.repeats) == (30, 3, 3)
    assert campaign.label.arguments == {"asap_cutoff": True}  # type: ignore[attr-defined]
    assert activeph("check", "campaign.yaml", "--no-label").code == 0


def test_init_elsewhere_still_finds_the_structure(activeph, folder: Path) -> None:
    (folder / "deep").mkdir()
    given = ["--structure", "Cu.vasp", "--supercell", "2", "2", "2", "--label", "xtb", "-o", "deep/c.yaml"]
    assert activeph("init", *given).code == 0
    assert load_campaign(folder / "deep" / "c.yaml").systems[0].structure == folder / "Cu.vasp"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--structure must be given where nobody can be asked but got nothing; add --structure"),
        (["--structure", "no.cif"], "structure must be an existing file but got no.cif"),
        (
            ["--structure", "Cu.vasp", "--label", "xtbb"],
            "kind must name one of the labelers but got 'xtbb'; did",
        ),
        (
            ["--structure", "Cu.vasp", "--label", "ase"],
            "--set calculator=VALUE must be given where nobody can be asked",
        ),
        (["--structure", "Cu.vasp", "--set", "accuracy"], "--set must be KEY=VALUE but got 'accuracy'"),
        (["--structure", "Cu.vasp", "--set", "accuracy=[1"], "--set accuracy must have a YAML value but got '[1'"),
        (["--structure", "Cu.vasp", "-o", "tiny.yaml"], "tiny.yaml must be a new file but got one that exists"),
    ],
)
def test_init_without_what_it_needs(activeph, folder: Path, arguments: list[str], words: str) -> None:
    answer = activeph("init", *arguments)
    assert answer.code == 2
    assert answer.err.startswith(f"activeph: {words}")
    assert not (folder / "campaign.yaml").exists()


@pytest.mark.parametrize(
    ("lengths", "n_atoms", "expected"),
    [
        ((4.7, 4.7, 4.7), 2, (2, 2, 2)),
        ((3.2, 3.2, 5.2), 4, (3, 3, 2)),
        ((9.0, 9.0, 9.0), 20, (1, 1, 1)),
        ((3.0, 3.0, 20.0), 6, (3, 3, 1)),
        ((3.0, 3.0, 3.0), 30, (2, 1, 1)),
    ],
)
def test_suggested_supercells(lengths: tuple[float, ...], n_atoms: int, expected: tuple[int, int, int]) -> None:
    assert suggest_supercell(np.diag(lengths), n_atoms) == expected


def test_schema_is_json(activeph) -> None:
    assert json.loads(activeph("schema").out)["title"] == "activeph campaign"


def test_init_asks_on_a_terminal_until_the_answers_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "somebody_is_there", lambda: True)
    answers = ["no.cif", "Cu.vasp", "2 2", "3 3 3", "asee", "ase", "ase.calculators.emt:EMT", "many", "20"]
    result = CliRunner().invoke(group, ["init"], input="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    for question in (
        "Structure file",
        "Supercell [4 4 4]",
        "Labeler (",
        "label.calculator (Import path",
        "Labels per",
    ):
        assert question in result.output
    assert result.output.count("Error: ") == 4
    campaign = load_campaign(folder / "campaign.yaml")
    assert campaign.systems[0].supercell == ((3, 0, 0), (0, 3, 0), (0, 0, 3))
    assert (campaign.label.kind, campaign.budget.labels) == ("ase", 20)


def test_init_copes_with_any_file_name(activeph, folder: Path) -> None:
    strange = folder / 'my "crystal" é: #1 {x}.vasp'
    (folder / "Cu.vasp").rename(strange)
    answer = activeph("init", "--structure", strange, "--label", "xtb", "-o", "a b.yaml")
    assert answer.code == 0, answer.err
    campaign = load_campaign(folder / "a b.yaml")
    assert campaign.systems[0].structure == strange
    assert campaign.name == "my-crystal-1-x"
    assert campaign.systems[0].name == "my-crystal-1-x"
