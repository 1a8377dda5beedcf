from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import activeph as package
from activeph.cli import main as cli
from activeph.errors import ActivephError, Paused

HEAVY = ("torch", "ase", "phonopy", "scipy", "sklearn", "matplotlib", "tblite", "mace", "h5py", "torch_geometric")


def _modules_after(*arguments: str) -> set[str]:
    code = (
        "import sys; from activeph.cli.main import _exit_code; "
        f"_exit_code({list(arguments)!r}); print('\\nMODULES', *sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.rpartition("MODULES")[2].split())


def test_help_lists_every_command_and_imports_nothing_heavy(activeph) -> None:
    answer = activeph("--help")
    assert answer.code == 0
    for name, summary in cli.COMMANDS.items():
        assert f"  {name}" in answer.out
        assert summary.split(" ", maxsplit=1)[0] in answer.out
    assert not _modules_after("--help") & {*HEAVY, "numpy", "pydantic"}


def test_every_command_explains_itself(activeph) -> None:
    for name in cli.COMMANDS:
        answer = activeph(name, "--help")
        assert answer.code == 0
        assert answer.out.startswith(f"Usage: activeph {name}")


def test_status_and_schema_import_no_torch(folder: Path) -> None:
    assert not _modules_after("status", str(folder)) & set(HEAVY)


def test_the_version(activeph) -> None:
    assert package.__version__ in activeph("--version").out


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["run"], ["run", "a.yaml", "--bogus"], ["export", ".", "--format", "x"]]
)
def test_wrong_usage_ends_with_2(activeph, arguments: list[str]) -> None:
    answer = activeph(*arguments)
    assert answer.code == 2
    assert "Error:" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_file_ends_with_2_and_one_sentence(activeph, folder: Path, command: str) -> None:
    (folder / "wrong.yaml").write_text("label: xtb\n")
    answer = activeph(command, "wrong.yaml")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("activeph: wrong.yaml:1: systems must be given but got nothing")
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ActivephError("a sentence"), 1, "activeph: a sentence\n"),
        (Paused("pausing"), 3, "activeph: pausing\n"),
        (KeyboardInterrupt(), 3, "activeph: stopped; run the same command again to continue\n"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_exit_codes(activeph, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str) -> None:
    @click.command("schema")
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: failing)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    answer = activeph("schema")
    assert answer.code == code
    assert answer.err.strip() == words.strip()


def test_a_bug_keeps_its_traceback(activeph, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("schema")
    def failing() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: failing)
    with pytest.raises(ZeroDivisionError):
        activeph("schema")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_with_3_and_says_how_to_continue(folder: Path, number: signal.Signals) -> None:
    (folder / "slow.py").write_text(
        "import time\nfrom ase.calculators.emt import EMT\n\n\nclass Slow(EMT):\n"
        "    def calculate(self, *args, **kwargs):\n        print('busy', flush=True)\n        time.sleep(60)\n"
    )
    text = (folder / "tiny.yaml").read_text().replace("ase.calculators.emt:EMT", "slow:Slow")
    (folder / "slow.yaml").write_text(text)
    command = [sys.executable, "-c", "from activeph.cli.main import main; main(['run', 'slow.yaml'])"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert err.endswith("activeph: stopped; nothing finished is lost: 'activeph run slow.yaml' continues\n")
