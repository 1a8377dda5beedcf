import json
import os
import sys
import time
from pathlib import Path

import pytest

from activeph.errors import InputError, LabelFailed
from activeph.label.cp2k import Cp2kLabeler
from activeph.label.program import program_version, require_program, run_program


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("typed")
    code = "import sys, os; print(sys.stdin.read(), os.getcwd(), os.environ['A']); print('oops', file=sys.stderr)"
    run_program(python(code), tmp_path, "log", stdin=tmp_path / "in", environment={"A": "b"})
    assert sorted((tmp_path / "log").read_text().split()) == sorted(["oops", "typed", str(tmp_path), "b"])


@pytest.mark.parametrize(
    ("code", "ending"),
    [("print('bad input'); raise SystemExit(5)", "exit status 5"), ("import os; os.abort()", "signal 6")],
)
def test_a_failing_program_shows_its_last_lines(tmp_path: Path, code: str, ending: str) -> None:
    with pytest.raises(LabelFailed, match=ending) as caught:
        run_program(python(code), tmp_path, "log")
    assert caught.value.kind == "crashed"
    assert ("bad input" in caught.value.message) == ("bad input" in code)
    assert run_program(python("raise SystemExit(5)"), tmp_path, "log", accept=(5,)) == 5


def test_a_slow_program_is_stopped_with_its_children(tmp_path: Path) -> None:
    code = f"import subprocess; subprocess.run({python('import time; time.sleep(1.5); open(chr(97), chr(119))')!r})"
    start = time.monotonic()
    with pytest.raises(LabelFailed, match=r"stopped after 0\.5 s") as caught:
        run_program(python(code), tmp_path, "log", timeout=0.5)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - start < 1.4
    time.sleep(1.5)
    assert not (tmp_path / "a").exists()


def test_a_missing_program_names_the_key() -> None:
    with pytest.raises(InputError, match="label.command must name an installed program but got 'no-such-code'"):
        require_program("no-such-code", "label.command", "The Code")


def test_a_version_is_asked_for_in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("-c", "open('CRASH', 'w'); print('The Code 7.5-beta')")
    assert program_version(sys.executable, arguments, r"The Code (\S+)", "The Code") == "7.5-beta"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="label.command must start The Code but got"):
        program_version(sys.executable, ("-c", "print('something else')"), r"The Code (\S+)", "The Code")


LAUNCHED = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open('seen', 'w'))"


@pytest.mark.parametrize(
    ("cores", "launcher", "keeps_the_job"),
    [(4, "mpirun -np {cores}", False), (1, "code", False), (4, "srun --overlap -w {node} -n {cores}", True)],
)
def test_a_local_launcher_knows_nothing_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, launcher: str, keeps_the_job: bool
) -> None:
    program = tmp_path / launcher.split()[0]
    program.write_text(f"#!{sys.executable}\n{LAUNCHED}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name in ("SLURM_NTASKS", "PBS_NODEFILE", "PMI_RANK", "SLURM_CONF", "SLURMD_NODENAME"):
        monkeypatch.setenv(name, "n17")
    Cp2kLabeler(cores=cores, launcher=launcher)._start(["code", "-i", "x"], tmp_path)
    arguments, environment = json.loads((tmp_path / "seen").read_text())
    prefix = [] if cores == 1 else [*launcher.format(cores=cores, node="n17").split()[1:], "code"]
    assert arguments == [*prefix, "-i", "x"]
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["SLURM_CONF"] == "n17"
    for name in ("SLURM_NTASKS", "PBS_NODEFILE", "PMI_RANK"):
        assert (name in environment) == keeps_the_job
    assert ("OMPI_MCA_hwloc_base_binding_policy" in environment) != keeps_the_job
