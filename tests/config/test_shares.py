"""Executors and labelers that must suit each other."""

import pytest
from pydantic_core import PydanticCustomError

from activeph.config.shares import suited
from activeph.execute.processes import ProcessExecutor
from activeph.execute.serial import SerialExecutor
from activeph.execute.slurm_executor import SlurmExecutor
from activeph.label.cp2k import Cp2kLabeler
from activeph.label.xtb import XtbLabeler


def test_cores_follow_the_label() -> None:
    label = Cp2kLabeler(cores=4)
    assert suited(SlurmExecutor(cores_per_node=16), label).workers_per_node == 4  # type: ignore[attr-defined]
    assert suited(ProcessExecutor(), label).cores_per_label == 4  # type: ignore[attr-defined]
    assert suited(ProcessExecutor(workers=3), label).n_workers == 3  # type: ignore[attr-defined]
    assert suited(SerialExecutor(), label) == SerialExecutor()
    assert suited(SlurmExecutor(cores_per_label=8), XtbLabeler()) == SlurmExecutor(cores_per_label=8)


def test_other_cores_are_refused() -> None:
    with pytest.raises(PydanticCustomError) as caught:
        suited(SlurmExecutor(cores_per_label=2), Cp2kLabeler(cores=4))
    assert caught.value.context == {
        **(caught.value.context or {}),
        "expected": "must have cores_per_label 4 (label.cores)",
    }


def test_a_label_that_may_outlast_its_job_is_refused() -> None:
    """Two tries of 20 minutes: one, and one for the rung of the ladder."""
    label = Cp2kLabeler(timeout=1200.0)
    suited(SlurmExecutor(reserve="00:40:00"), label)
    suited(ProcessExecutor(), label)
    with pytest.raises(PydanticCustomError) as caught:
        suited(SlurmExecutor(reserve="00:30:00"), label)
    assert "at least 1200 s (label.timeout) for 2 tries" in str((caught.value.context or {})["expected"])
