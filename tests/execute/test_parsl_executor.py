import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from activeph.build import run_campaign
from activeph.errors import InputError, Paused
from activeph.execute.driver_job import DriverJob, driver_script, submit_driver
from activeph.execute.parsl_executor import ParslExecutor, seconds
from activeph.execute.slurm_executor import SlurmExecutor, await_controller
from activeph.progress import NoProgress
from activeph.records import Done, Failed, Label
from activeph.store.ledger import Ledger

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from conftest import jobs, wait_for  # noqa: E402
from executor_tasks import misbehave, sleep, square  # noqa: E402


@pytest.mark.parametrize(("text", "value"), [("00:00:10", 10), ("24:00:00", 86400), ("2-01:00:05", 176405)])
def test_durations(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("wrong", ["24", "1:2:3", "-1:00:00", "24h"])
def test_wrong_durations_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        SlurmExecutor(walltime=wrong)


def test_no_task_begins_that_cannot_finish() -> None:
    executor = SlurmExecutor(walltime="02:00:00", reserve="00:30:00", cores_per_node=16, cores_per_label=4)
    options = executor._options()
    assert options["drain_period"] == 5400
    assert options["max_workers_per_node"] == 4
    assert SlurmExecutor(walltime="02:00:00")._options()["drain_period"] == 5400


def test_without_slurm_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="Slurm must answer sinfo but got"):
        SlurmExecutor().check()


@pytest.fixture
def silent_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-in for Slurm whose controller is away until the file that is given is there."""
    back = tmp_path / "back"
    sentence = "slurm_load_partitions: Unable to contact slurm controller (connect failure)"
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\n[ -e {back} ] && echo test && exit 0\necho '{sentence}' >&2; exit 1\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("activeph.execute.slurm_executor.PAUSE_SECONDS", 0.05)
    return back


def test_a_controller_that_stays_away_pauses_with_its_reason(
    silent_controller: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("activeph.execute.slurm_executor.PATIENCE_SECONDS", 0.2)
    reason = r"Slurm's controller must answer sinfo but got '.*Unable to contact.*'; run again when it is back"
    with pytest.raises(Paused, match=reason):
        SlurmExecutor().start(tmp_path / "jobs")
    with pytest.raises(Paused, match=reason):
        SlurmExecutor().check()


def test_a_controller_that_comes_back_was_waited_for(silent_controller: Path, caplog: pytest.LogCaptureFixture) -> None:
    threading.Timer(0.5, silent_controller.touch).start()
    await_controller()
    assert caplog.text.count("waiting for the scheduler: Slurm's controller must answer sinfo") == 1


@pytest.mark.integration
def test_a_wrong_provider_is_named(tmp_path: Path) -> None:
    executor = ParslExecutor(provider="parsl.providers:NoSuchProvider")
    with pytest.raises(InputError, match="must be a provider of Parsl"), executor.start(tmp_path):
        pass


@pytest.mark.integration
def test_tasks_run_in_a_job_that_ends_with_the_context(slurm: SlurmExecutor, jobs_directory: Path) -> None:
    with slurm.start(jobs_directory) as workers:
        outcomes = list(workers.map(square, list(range(50))))
        assert sorted(outcome.value for outcome in outcomes if isinstance(outcome, Done)) == [i * i for i in range(50)]
        assert len(jobs()) == 1
        failed = {outcome.index: outcome for outcome in workers.map(misbehave, ["raise", "a", "kill"])}
        assert isinstance(failed[0], Failed)
        assert failed[0].error == "ValueError: no such thing"
        assert failed[1] == Done(1, "a")
        assert isinstance(failed[2], Failed)
        assert "loss of worker" in failed[2].error
    assert jobs() == []


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from executor_tasks import sleep
from activeph.execute.driver_job import DriverJob, driver_script, submit_driver
from activeph.execute.slurm_executor import SlurmExecutor
with SlurmExecutor.model_validate_json(sys.argv[2]).start(Path(sys.argv[3])) as workers:
    list(workers.map(sleep, [600.0]))
"""


@pytest.mark.integration
def test_jobs_of_a_killed_driver_are_ended_by_the_next(slurm: SlurmExecutor, jobs_directory: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(HERE), slurm.model_dump_json(), str(jobs_directory)])
    end = time.monotonic() + 60
    while not jobs() and time.monotonic() < end:
        time.sleep(0.2)
    (orphan,) = jobs()
    driver.kill()
    driver.wait()
    assert jobs() == [orphan]
    with slurm.start(jobs_directory) as workers:
        assert orphan not in jobs()
        assert list(workers.map(sleep, [0.0])) == [Done(0, 0.0)]


@pytest.mark.integration
@pytest.mark.parametrize("ending", ["exit 1", "sleep 30", "refused"])
def test_a_submission_that_fails_after_all_or_not(
    slurm: SlurmExecutor, jobs_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """With sbatch failing or hanging although the job is there, one job runs; without jobs the campaign pauses."""
    monkeypatch.setattr("activeph.execute.slurm_executor.COMMAND_SECONDS", 3)
    body = "echo no such account >&2\nexit 1\n" if ending == "refused" else f'{shutil.which("sbatch")} "$@"\n{ending}\n'
    (tmp_path / "sbatch").write_text(f"#!/bin/bash\necho called >> {tmp_path}/calls\n{body}")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with slurm.start(jobs_directory) as workers:
        if ending != "refused":
            assert list(workers.map(square, [3])) == [Done(0, 9)]
            assert (tmp_path / "calls").read_text().count("called") == 1
        else:
            with pytest.raises(Paused, match="the scheduler gives no jobs: .* the last says: .*no such account"):
                list(workers.map(square, [3]))


@pytest.mark.integration
def test_a_whole_campaign_runs_on_slurm_and_ends_as_it_does_here(
    slurm: SlurmExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    data = HERE.parent / "data" / "kbr"
    content = {
        "name": "on-slurm",
        "systems": [
            {
                "name": "KBr",
                "structure": str(data / "KBr.vasp"),
                "supercell": [2, 2, 2],
                "force_constants": str(data / "phonopy_params.yaml"),
            }
        ],
        "pool": 200,
        "label": {"kind": "xtb"},
        "targets": ["band_gap"],
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 8, "initial": 4, "batch": 4, "repeats": 1},
        "test": {"n": 4},
    }
    found = []
    for name, execute in (("slurm", slurm.model_dump(mode="json")), ("here", {"kind": "processes", "workers": 2})):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "campaign.yaml"
        file.write_text(yaml.safe_dump({**content, "execute": execute}))
        run_campaign(file, tmp_path / name / "run", NoProgress())
        ledger = Ledger(tmp_path / name / "run" / "labels")
        found.append({key: ledger.get(key) for key in sorted(ledger.keys())})
        assert {calculation["outcome"] for calculation in ledger.calculations()} == {"label"}
    on_slurm, here = found
    assert list(on_slurm) == list(here)
    assert len(here) >= 12
    for key, label in here.items():
        other = on_slurm[key]
        assert isinstance(label, Label)
        assert isinstance(other, Label)
        assert other.energy == label.energy
    assert jobs() == []


@pytest.mark.integration
def test_a_driver_out_of_time_submits_itself_again_and_a_cancelled_one_does_not(
    slurm: SlurmExecutor, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    job = DriverJob(partition="test", walltime="00:10:00", resubmit=True, init=f"export PYTHONPATH={HERE}")
    output = tmp_path / "run"
    script = driver_script(tmp_path / "campaign.yaml", output, job, "activeph-driver-run")
    stand_in = f"{sys.executable} -m slow_driver {tmp_path}"
    lines = [f"{stand_in} &" if line.endswith("&") and "activeph" in line else line for line in script.splitlines()]
    output.mkdir()
    (output / "driver.sh").write_text("\n".join(lines) + "\n")
    subprocess.run(["sbatch", str(output / "driver.sh")], check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "started-1").exists())
    (first,) = jobs()
    subprocess.run(["scancel", "--signal=USR1", "--batch", first], check=True)
    wait_for(lambda: (tmp_path / "started-2").exists())
    assert (tmp_path / "stopped-1").exists()
    (second,) = jobs()
    assert second != first
    subprocess.run(["scancel", second], check=True)
    wait_for(lambda: jobs() == [])
    time.sleep(2.0)
    assert jobs() == []
    assert not (tmp_path / "started-3").exists()


@pytest.mark.integration
def test_a_second_driver_is_not_submitted(slurm: SlurmExecutor, tmp_path: Path) -> None:
    file = tmp_path / "campaign.yaml"
    hold = DriverJob(scheduler_options="#SBATCH --hold")
    number = submit_driver(file, tmp_path / "held", hold)
    try:
        assert jobs() == [number]
        with pytest.raises(InputError, match=f"must have one driver but got a second: job {number}"):
            submit_driver(file, tmp_path / "held", hold)
    finally:
        subprocess.run(["scancel", number], check=True)
    with pytest.raises(InputError, match="Slurm must answer sbatch but got .*partition"):
        submit_driver(file, tmp_path / "other", DriverJob(partition="no-such-partition"))


@pytest.mark.integration
def test_a_partition_that_is_not_there_is_named(slurm: SlurmExecutor) -> None:
    with pytest.raises(InputError, match="execute.partition must be one of test but got 'gpu'"):
        slurm.model_copy(update={"partition": "gpu"}).check()


@pytest.mark.integration
def test_the_cluster_is_there_for_these_tests() -> None:
    """Integration tests must not pass by finding nothing to test."""
    assert shutil.which("slurmctld")
    assert os.getuid() == 0
