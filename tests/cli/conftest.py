from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from activeph.build import run_campaign
from activeph.cli.main import _exit_code
from activeph.progress import NoProgress

CU = "Cu\n1.0\n0 1.8 1.8\n1.8 0 1.8\n1.8 1.8 0\nCu\n1\nDirect\n0 0 0\n"
TINY = """systems: [{structure: Cu.vasp, supercell: [2, 2, 2]}]
label: {kind: ase, calculator: ase.calculators.emt:EMT}
targets: [energy_per_atom, hydrostatic_stress]
temperatures: [300]
model: {kind: modes, members: 2}
budget: {labels: 4, initial: 2, batch: 2, repeats: 1}
pool: 12
test: {n: 4}
execute: serial
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the tiny campaign, made once; copy it before changing it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "Cu.vasp").write_text(CU)
    (folder / "tiny.yaml").write_text(TINY)
    run_campaign(folder / "tiny.yaml", folder / "run", NoProgress())
    return folder / "run"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a crystal of copper and a campaign on it that takes a second."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Cu.vasp").write_text(CU)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def activeph(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as typed; gives exit code, standard output and standard error."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = _exit_code([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run
