"""Parsl's SlurmProvider made patient: with submissions that time out, and with jobs that Slurm has forgotten."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from parsl.providers import SlurmProvider

POLL_SECONDS = 10


class PatientSlurmProvider(SlurmProvider):  # type: ignore[misc]
    """Asks Slurm before it believes that a submission failed; takes a job that is unknown to Slurm as ended."""

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        """Run one of Slurm's commands; return its exit status, output and errors."""
        try:
            status, output, errors = super().execute_wait(cmd, timeout)
        except subprocess.TimeoutExpired as error:
            status, output, errors = 1, "", f"no answer in {error.timeout} s"
        if status == 0:
            return 0, output, errors
        if cmd.startswith("sbatch "):
            job = _job_named(Path(cmd.split(maxsplit=1)[1]).name)
            if job is not None:
                return 0, f"Submitted batch job {job}", errors
        if cmd.startswith("squeue ") and "Invalid job id" in errors:
            return 0, "", errors
        return status, output, errors

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
