"""No command that writes meets a place that cannot be written with more than one sentence, or after its work."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.db
import click
import pytest

from activeph.cli import main as cli

WRITING = {
    "run": ["run", "tiny.yaml", "--output"],
    "init": ["init", "--structure", "Cu.vasp", "--label", "xtb", "-o"],
    "export": ["export", "runs/tiny", "-o"],
    "ledger export": ["ledger", "export", "runs/tiny", "-o"],
    "phonons": ["phonons", "tiny.yaml", "--picture"],
    "predict": ["predict", "runs/tiny", "supercell.xyz", "-o"],
}


@pytest.fixture
def run(finished_run: Path, folder: Path) -> Path:
    """A finished run that a test may spoil."""
    return Path(shutil.copytree(finished_run, folder / "runs" / "tiny"))


@pytest.fixture
def supercell(run: Path) -> None:
    from activeph.systems import read_phonopy

    site = read_phonopy("Cu", run / "systems/Cu/phonopy_params.yaml").supercell
    ase.Atoms(site.numbers, site.positions, cell=site.cell, pbc=True).write("supercell.xyz", format="extxyz")


@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
@pytest.mark.parametrize("place", ["file/x.png", "file/deep/x.png", "tiny.yaml"])
def test_a_file_on_the_way_is_named_in_one_sentence(activeph, run: Path, folder: Path, command, place: str) -> None:
    (folder / "file").write_text("mine")
    if place == "tiny.yaml" and command[0] != "run":
        place = "runs"  # a folder where a file belongs
    before = sorted(folder.rglob("*"))
    answer = activeph(*command, place)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("activeph: --")
    assert " must " in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", [WRITING[name] for name in WRITING if name != "run"])
def test_folders_that_are_missing_are_made(activeph, supercell: None, folder: Path, command: list[str]) -> None:
    answer = activeph(*command, "new/deep/x.png")
    assert answer.code == 0, answer.err
    assert (folder / "new/deep/x.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["p.xyz", "p"])
def test_a_picture_of_no_known_format_is_refused_before_anything_is_read(activeph, run: Path, name: str) -> None:
    answer = activeph("phonons", "tiny.yaml", "--picture", name)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"activeph: --picture must end with .png, .svg or .pdf but got {name}; write p.png\n"


@pytest.mark.parametrize("command", ["report", "plot"])
def test_what_writes_into_the_run_directory_names_what_is_in_the_way(activeph, run: Path, command: str) -> None:
    shutil.rmtree(run / "report")
    (run / "report").write_text("mine")
    answer = activeph(command, "runs/tiny")
    assert answer.code == 1
    assert answer.err.startswith("activeph: ")
    assert "runs/tiny/report must be usable but got 'File exists'" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError("no answer")])
def test_what_the_system_refuses_is_one_sentence(activeph, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    @click.command("schema")
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: failing)
    answer = activeph("schema")
    assert answer.code == 1
    assert answer.err.startswith("activeph: the file system must be usable but got ")
    assert answer.err.endswith("; check permissions and space\n")


@pytest.mark.parametrize("command", [["export"], ["ledger", "export"]])
def test_a_database_that_ase_would_not_know_is_refused(activeph, run: Path, folder: Path, command: list[str]) -> None:
    answer = activeph(*command, "runs/tiny", "--format", "ase-db", "-o", "d.ase-db")
    assert answer.code == 2
    assert answer.err.endswith(
        "--output must end with .db, by which ASE knows its databases, but got d.ase-db; write d.db\n"
    )
    assert activeph(*command, "runs/tiny", "--format", "ase-db", "-o", "d.db").code == 0
    assert len(ase.db.connect("d.db")) > 0
