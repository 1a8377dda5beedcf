import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from activeph.execute.driver_job import DriverJob, driver_script


def test_the_script_asks_for_what_was_asked(tmp_path: Path) -> None:
    job = DriverJob(walltime="1-00:00:00", partition="long", account="physics", init="module load python")
    script = driver_script(Path("my campaign.yaml"), tmp_path, job, "activeph-driver-run")
    lines = script.splitlines()
    assert "#SBATCH --time=1-00:00:00" in lines
    assert "#SBATCH --partition=long" in lines
    assert "#SBATCH --account=physics" in lines
    assert "#SBATCH --signal=B:USR1@300" in lines
    assert lines.index("module load python") < next(i for i, line in enumerate(lines) if line.endswith(" &"))
    assert "my campaign.yaml'" in script
    assert "sbatch" not in script.replace("#SBATCH", "")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_resubmission_is_only_after_the_walltime(tmp_path: Path) -> None:
    script = driver_script(Path("a.yaml"), tmp_path, DriverJob(resubmit=True), "n")
    assert f'if [ "$out_of_time" ] && [ $status = 3 ]; then until sbatch {tmp_path}/driver.sh || ' in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("is_there_after_all", [False, True])
def test_resubmission_waits_for_a_controller_that_is_away(tmp_path: Path, is_there_after_all: bool) -> None:
    """Stand-ins for Slurm: sbatch fails twice, and may have submitted in spite of that."""
    programs = {
        "activeph": "exit 3",
        "sleep": "",
        "sbatch": f'echo x >> {tmp_path}/tries; [ "$(wc -l < {tmp_path}/tries)" = 3 ]',
        "squeue": f'echo "$@" >> {tmp_path}/asked; ' + ("echo 17" if is_there_after_all else ""),
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = driver_script(Path("a.yaml"), tmp_path, DriverJob(resubmit=True), "n")
    again = next(line for line in script.splitlines() if "until sbatch" in line)
    lines = ["out_of_time=yes", "status=3", again]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, check=True, timeout=30)
    assert len((tmp_path / "tries").read_text().split()) == (1 if is_there_after_all else 3)
    assert "-t PENDING --name n" in (tmp_path / "asked").read_text()


def test_short_jobs_stop_at_three_quarters(tmp_path: Path) -> None:
    assert "B:USR1@150" in driver_script(Path("a.yaml"), tmp_path, DriverJob(walltime="00:10:00"), "n")


@pytest.mark.parametrize("wrong", [{"walltime": "a day"}, {"cores": "two"}, {"partitions": "x"}])
def test_wrong_settings_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        DriverJob.model_validate(wrong)
