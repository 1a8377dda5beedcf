"""Parsl's SlurmProvider made patient: with a controller that is away, submissions that time out, forgotten jobs."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path

from parsl.providers import SlurmProvider

from activeph.execute.slurm_executor import PASSING, PATIENCE_SECONDS, PAUSE_SECONDS

POLL_SECONDS = 10
LONGEST_PAUSE_SECONDS = 60.0


class PatientSlurmProvider(SlurmProvider):  # type: ignore[misc]
    """Asks Slurm before it believes that a submission failed; takes a job that is unknown to Slurm as ended."""

    def __init__(self, **settings: object) -> None:
        self._leaving = threading.Event()
        self._refusals = 0  # since the last job that was accepted
        super().__init__(**settings)

    def leave(self) -> None:
        """End all waiting for Slurm: the driver is about to stop."""
        self._leaving.set()

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        """Run one of Slurm's commands; return its exit status, output and errors."""
        if cmd.startswith("sbatch "):
            return self._submitted(cmd, timeout)
        status, output, errors = self._run(cmd, timeout)
        if cmd.startswith("squeue ") and "Invalid job id" in errors:
            return 0, "", errors
        return status, output, errors

    def _submitted(self, cmd: str, timeout: float | None) -> tuple[int, str, str]:
        """Run sbatch until the job is there, Slurm refuses it for a reason of its own, or patience ends."""
        if self._refusals:  # such as a limit on jobs, while others of ours run: Parsl would ask every second
            self._leaving.wait(min(2.0 ** (self._refusals - 1), LONGEST_PAUSE_SECONDS))
        answer = self._submitted_at_last(cmd, timeout)
        self._refusals = 0 if answer[0] == 0 else self._refusals + 1
        return answer

    def _submitted_at_last(self, cmd: str, timeout: float | None) -> tuple[int, str, str]:
        name = Path(cmd.split(maxsplit=1)[1]).name
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            status, output, errors = self._run(cmd, timeout)
            if status == 0:
                return 0, output, errors
            job = _job_named(name)
            if job is not None:
                return 0, f"Submitted batch job {job}", errors
            if not PASSING.search(errors) or time.monotonic() > end or self._leaving.wait(PAUSE_SECONDS):
                return status, output, errors
            job = _job_named(name)  # by now Slurm may have found what it had accepted
            if job is not None:
                return 0, f"Submitted batch job {job}", errors

    def _run(self, cmd: str, timeout: float | None) -> tuple[int, str, str]:
        try:
            status, output, errors = super().execute_wait(cmd, timeout)
            return int(status), str(output), str(errors)
        except subprocess.TimeoutExpired as error:
            return 1, "", f"no answer in {error.timeout} s"

    @property
    def status_polling_interval(self) -> int:
        """Seconds between questions about jobs."""
        return POLL_SECONDS


def _job_named(name: str) -> str | None:
    """Return the number of the job of this name, None where Slurm has none or does not answer."""
    try:
        answer = subprocess.run(
            ["squeue", "--me", "-h", "-o", "%i", "--name", name],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    found = re.match(r"\d+", answer.stdout.strip())
    return found.group() if found else None
