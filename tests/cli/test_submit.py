from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SLURM = """execute:
  kind: slurm
  partition: cpu
  account: crystals
  qos: long
  walltime: "02:00:00"
  worker_init: module load gpaw
"""
PARSL = 'execute: {kind: parsl, provider: "parsl.providers:LocalProvider"}\n'


@pytest.fixture
def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with stand-ins for the programs of Slurm and a campaign that executes there."""
    programs = folder / "bin"
    programs.mkdir()
    answers = {
        "sinfo": "echo cpu; echo gpu",
        "squeue": f"cat {folder}/queue 2>/dev/null || true",
        "sbatch": f'cp "$1" {folder}/submitted; echo Submitted batch job 7',
    }
    for name, line in answers.items():
        (programs / name).write_text(f"#!/bin/bash\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    (folder / "slurm.yaml").write_text((folder / "tiny.yaml").read_text().replace("execute: serial\n", SLURM))
    return folder


def test_the_driver_is_submitted_with_what_labels_use(activeph, slurm: Path) -> None:
    answer = activeph("submit", "slurm.yaml")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("submitted job 7; 'activeph status runs/slurm' shows")
    script = (slurm / "submitted").read_text()
    assert script == (slurm / "runs" / "slurm" / "driver.sh").read_text()
    lines = script.splitlines()
    for option in ("partition=cpu", "account=crystals", "qos=long", "time=02:00:00", "cpus-per-task=1"):
        assert f"#SBATCH --{option}" in lines
    assert f"run {slurm}/slurm.yaml --output {slurm}/runs/slurm &" in script
    assert lines.index("module load gpaw") < next(i for i, line in enumerate(lines) if line.endswith("&"))
    assert "sbatch" not in script
    subprocess.run(["bash", "-n", str(slurm / "submitted")], check=True)


def test_walltime_and_resubmission_are_asked_for(activeph, slurm: Path) -> None:
    answer = activeph("submit", "slurm.yaml", "--output", "out", "--walltime", "2-00:00:00", "--resubmit")
    assert answer.code == 0, answer.err
    script = (slurm / "submitted").read_text()
    assert "#SBATCH --time=2-00:00:00" in script.splitlines()
    assert f"sbatch {slurm}/out/driver.sh" in script.partition("wait")[2]  # after the driver has ended


@pytest.mark.parametrize(
    ("execute", "options", "expected"),
    [
        ("serial", (), {"cpus-per-task=1", "time=24:00:00"}),
        ("{kind: processes, workers: 4}", (), {"cpus-per-task=4"}),
        ("{kind: processes, workers: 4, cores_per_label: 2, gpus: 2}", (), {"cpus-per-task=8", "gres=gpu:2"}),
        ("processes", ("--cores", "6", "--partition", "gpu", "--account", "me"), {"cpus-per-task=6", "partition=gpu"}),
    ],
)
def test_a_campaign_on_one_node_gets_the_cores_of_its_workers(
    activeph, slurm: Path, execute: str, options: tuple[str, ...], expected: set[str]
) -> None:
    (slurm / "slurm.yaml").write_text((slurm / "slurm.yaml").read_text().replace(SLURM, f"execute: {execute}\n"))
    answer = activeph("submit", "slurm.yaml", *options)
    assert answer.code == 0, answer.err
    lines = (slurm / "submitted").read_text().splitlines()
    assert {f"#SBATCH --{option}" for option in expected} <= set(lines)
    assert ("#SBATCH --account=me" in lines) == bool(options)


def test_the_submitted_run_begins_in_the_folder_that_submitting_made(activeph, slurm: Path) -> None:
    assert activeph("submit", "slurm.yaml", "--output", "out").code == 0
    (slurm / "out" / "driver-7.log").write_text("")  # Slurm opens it before the driver starts
    answer = activeph("run", "tiny.yaml", "--output", "out")
    assert answer.code == 0, answer.err
    assert (slurm / "out" / "report" / "report.html").exists()


def test_a_second_driver_is_refused(activeph, slurm: Path) -> None:
    (slurm / "queue").write_text("41\n")
    answer = activeph("submit", "slurm.yaml")
    assert answer.code == 2
    assert "must have one driver but got a second: job 41" in answer.err
    assert not (slurm / "submitted").exists()


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (
            (SLURM, PARSL),
            (),
            "execute.kind must be slurm, processes or serial for a driver's job but got 'parsl'",
        ),
        (
            (SLURM, "execute: processes\n"),
            (),
            "the cores of a job must be known beforehand but got no number",
        ),
        (("partition: cpu", "partition: fast"), (), "execute.partition must be one of cpu, gpu but got 'fast'"),
        (("", ""), ("--partition", "fast"), "--partition must be one of cpu, gpu but got 'fast'"),
        (("", ""), ("--walltime", "24h"), "--walltime must be hours:minutes:seconds, after days and a dash if any"),
        (("", ""), ("--output", "bin"), "--output must be new, empty or a run directory but got bin"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_submitted(
    activeph, slurm: Path, change: tuple[str, str], options: tuple[str, ...], sentence: str
) -> None:
    (slurm / "slurm.yaml").write_text((slurm / "slurm.yaml").read_text().replace(*change))
    answer = activeph("submit", "slurm.yaml", *options)
    assert answer.code == 2
    assert sentence in answer.err
    assert answer.err.count("\n") == 1
    assert not (slurm / "submitted").exists()
    assert not (slurm / "runs").exists()


def test_without_slurm_the_reason_is_told(activeph, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    answer = activeph("submit", "slurm.yaml")
    assert answer.code == 2
    assert "Slurm must answer sinfo but got" in answer.err
