import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from activeph.execute.base import Workers
from activeph.execute.environment import THREAD_VARIABLES, available_cores, worker_environment
from activeph.execute.processes import ProcessExecutor
from activeph.records import Done, Failed

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from executor_tasks import Unloadable, misbehave, process_id, sleep, square, variables  # noqa: E402


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with ProcessExecutor(workers=2).start() as running:
        yield running


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        ("segfault", "signal 11 (SIGSEGV)"),
        ("kill", "signal 9 (SIGKILL)"),
        ("exit", "exit status 7"),
        ("system exit", "exit status 3"),
    ],
)
def test_a_dying_worker_fails_its_own_task_only(workers: Workers, death: str, reason: str) -> None:
    outcomes = {outcome.index: outcome for outcome in workers.map(misbehave, ["a", death, "b", "c", "d"])}
    failed = outcomes.pop(1)
    assert isinstance(failed, Failed)
    assert reason in failed.error
    assert [outcomes[index] for index in (0, 2, 3, 4)] == [Done(0, "a"), Done(2, "b"), Done(3, "c"), Done(4, "d")]


def test_the_last_words_of_a_dead_worker_are_kept(workers: Workers) -> None:
    (failed,) = workers.map(misbehave, ["segfault"])
    assert isinstance(failed, Failed)
    assert "last words" in failed.traceback
    assert "executor_tasks.py" in failed.traceback  # where it was when the signal came


def test_what_cannot_travel_fails_as_a_value(workers: Workers) -> None:
    outcomes = {outcome.index: outcome for outcome in workers.map(misbehave, ["unpicklable", Unloadable(), "a"])}
    assert isinstance(outcomes[0], Failed)
    assert isinstance(outcomes[1], Failed)
    assert "not a number" in outcomes[1].error
    assert outcomes[2] == Done(2, "a")


def test_workers_are_kept_between_calls_and_end_with_the_context() -> None:
    with ProcessExecutor(workers=1).start() as workers:
        pids = {outcome.value for _ in range(3) for outcome in workers.map(process_id, [0, 1])}  # type: ignore[union-attr]
        assert len(pids) == 1
        assert os.getpid() not in pids
    assert not is_alive(pids.pop())


def test_no_more_processes_than_tasks() -> None:
    with ProcessExecutor(workers=8).start() as workers:
        list(workers.map(square, [1, 2]))
        assert len(workers._processes) <= 2  # type: ignore[attr-defined]


def test_outcomes_come_as_they_finish(workers: Workers) -> None:
    list(workers.map(square, [1, 2]))  # started
    assert [outcome.index for outcome in workers.map(sleep, [0.5, 0.0])] == [1, 0]


def test_threads_are_pinned_before_the_worker_starts(workers: Workers) -> None:
    (outcome,) = workers.map(variables, [[*THREAD_VARIABLES, "MALLOC_TRIM_THRESHOLD_"]])
    assert isinstance(outcome, Done)
    assert {outcome.value[name] for name in THREAD_VARIABLES} == {"1"}
    assert outcome.value["MALLOC_TRIM_THRESHOLD_"] == "2000000000"
    assert worker_environment(4)["OMP_NUM_THREADS"] == "4"
    assert worker_environment(1, {"MALLOC_TRIM_THRESHOLD_": "5"})["MALLOC_TRIM_THRESHOLD_"] == "5"


def test_large_tasks_and_results_travel(workers: Workers) -> None:
    data = b"x" * 20_000_000
    outcomes = list(workers.map(misbehave, [data, data, data]))
    assert all(isinstance(outcome, Done) and outcome.value == data for outcome in outcomes)


def test_default_is_one_worker_per_available_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert ProcessExecutor().workers is None
    assert available_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")  # in a job, pinned or not
    assert available_cores() == 1
    with pytest.raises(ValidationError):
        ProcessExecutor(workers=0)


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from executor_tasks import {function}
from activeph.execute.processes import ProcessExecutor
with ProcessExecutor(workers={n}).start() as workers:
    list(workers.map({function}, {tasks}))
"""


def start_driver(function: str, tasks: list[object]) -> subprocess.Popen[bytes]:
    script = DRIVER.format(function=function, n=len(tasks), tasks=repr(tasks))
    return subprocess.Popen([sys.executable, "-c", script, str(HERE)], start_new_session=True, stderr=subprocess.PIPE)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_die_with_the_driver(tmp_path: Path, ending: signal.Signals) -> None:
    notes = [tmp_path / "a", tmp_path / "b"]
    driver = start_driver("note_and_sleep", [(str(note), 5.0) for note in notes])
    assert wait_until(lambda: all(note.exists() and note.read_text() for note in notes))
    pids = [int(note.read_text()) for note in notes]
    driver.send_signal(ending)
    driver.wait(timeout=10)
    assert wait_until(lambda: not any(map(is_alive, pids)), 3.0)
    assert not list(tmp_path.glob("*.finished"))


def test_an_interrupted_terminal_ends_all_without_noise_from_workers(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group at once."""
    note = tmp_path / "a"
    driver = start_driver("note_and_sleep", [(str(note), 30.0)])
    assert wait_until(lambda: note.exists() and bool(note.read_text()))
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=10)
    assert errors.count(b"Traceback") == 1  # the driver's own KeyboardInterrupt
    assert not is_alive(int(note.read_text()))


def test_a_program_dies_with_its_worker(tmp_path: Path) -> None:
    """An electronic-structure code must not go on after the driver is gone."""
    note = tmp_path / "a"
    driver = start_driver("start_a_code", [str(note)])
    assert wait_until(lambda: note.exists() and bool(note.read_text()))
    program = int(note.read_text())
    assert is_alive(program)
    driver.kill()
    driver.wait()
    assert wait_until(lambda: not is_alive(program), 3.0)
