"""One suite over every executor: outcomes for all tasks, failures as values, workers kept between calls."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activeph.execute.base import Executor, Workers
from activeph.execute.parsl_executor import ParslExecutor
from activeph.execute.processes import ProcessExecutor
from activeph.execute.serial import SerialExecutor
from activeph.records import Done, Failed

sys.path.insert(0, str(Path(__file__).parents[1] / "execute"))

from executor_tasks import misbehave, square  # noqa: E402

EXECUTORS = [SerialExecutor(), ProcessExecutor(workers=1), ProcessExecutor(workers=2)]
LOCAL_PARSL = ParslExecutor(provider="parsl.providers:LocalProvider", cores_per_node=2)


@pytest.fixture(
    scope="module",
    params=[*EXECUTORS, pytest.param(LOCAL_PARSL, marks=pytest.mark.integration)],
    ids=lambda executor: f"{executor.kind}-{getattr(executor, 'workers', 1)}",
)
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    executor: Executor = request.param
    with executor.start() as running:
        yield running


def test_every_task_has_one_outcome(workers: Workers) -> None:
    outcomes = list(workers.map(square, list(range(10))))
    assert sorted((outcome.index, outcome.value) for outcome in outcomes if isinstance(outcome, Done)) == [
        (i, i * i) for i in range(10)
    ]
    assert len(outcomes) == 10


def test_no_tasks_no_outcomes(workers: Workers) -> None:
    assert list(workers.map(square, [])) == []


def test_a_task_that_raises_is_a_value_with_its_traceback(workers: Workers) -> None:
    outcomes = sorted(workers.map(misbehave, ["a", "raise", "b"]), key=lambda outcome: outcome.index)
    assert outcomes[0] == Done(0, "a")
    assert outcomes[2] == Done(2, "b")
    failed = outcomes[1]
    assert isinstance(failed, Failed)
    assert failed.error == "ValueError: no such thing"
    assert "executor_tasks.py" in failed.traceback


def test_calls_follow_each_other_with_other_functions(workers: Workers) -> None:
    for _ in range(3):
        assert [outcome.index for outcome in workers.map(square, [5])] == [0]
        assert list(workers.map(misbehave, ["x"])) == [Done(0, "x")]


def test_an_iteration_left_early_does_not_disturb_the_next(workers: Workers) -> None:
    iteration = iter(workers.map(square, list(range(6))))
    next(iteration)
    iteration.close()  # type: ignore[attr-defined]
    assert {outcome.index for outcome in workers.map(misbehave, ["a", "b", "c"])} == {0, 1, 2}


def test_executors_are_configuration(workers: Workers) -> None:
    for executor in EXECUTORS:
        assert type(executor).model_validate(executor.model_dump()) == executor
