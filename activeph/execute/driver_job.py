"""The driver itself as a job of Slurm: it stops cleanly before its walltime and, if asked, submits itself again."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from pydantic import Field

from activeph.errors import InputError
from activeph.execute.parsl_executor import Duration, seconds
from activeph.execute.slurm_executor import ask_slurm
from activeph.section import Section

STOP_SECONDS = 300
"""Time before the end of the job at which the driver is told to stop; Slurm may be a minute late."""
SCRIPT_NAME = "driver.sh"


class DriverJob(Section):
    """How the driver's own job is asked for."""

    walltime: Duration = "24:00:00"
    """Length of the job."""
    partition: str | None = None
    """Partition to submit to."""
    account: str | None = None
    """Account that pays."""
    cores: int = Field(1, ge=1)
    """Cores, on one node: one where labels and training run in other jobs, else what they need."""
    gpus: int = Field(0, ge=0)
    """GPUs."""
    resubmit: bool = False
    """Submit the job again when its walltime, and nothing else, has stopped the campaign."""
    scheduler_options: str = ""
    """Further ``#SBATCH`` lines."""
    init: str = ""
    """Shell lines before the driver starts, such as ``module load``."""


def submit_driver(file: Path, output: Path, job: DriverJob) -> str:
    """Write ``<output>/driver.sh`` and submit it; return the number of the job.

    Raises InputError where Slurm refuses, or where a driver's job of this run is waiting or running already, and
    ControllerAway where Slurm does not answer.
    """
    name = f"activeph-driver-{output.absolute().name}"
    script = output.absolute() / SCRIPT_NAME
    waiting = ask_slurm(["squeue", "--me", "-h", "-o", "%i", "--name", name]).split()
    if waiting:
        raise InputError(
            f"{output} must have one driver but got a second: job {waiting[0]} is queued or running already."
        )
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(driver_script(file, output, job, name), encoding="utf-8")
    script.chmod(0o755)
    answer = ask_slurm(["sbatch", str(script)])
    found = re.search(r"Submitted batch job (\d+)", answer)
    if found is None:
        raise InputError(f"Slurm must answer with the number of a job but got {answer[:200]!r}; look at squeue.")
    return found.group(1)


def driver_script(file: Path, output: Path, job: DriverJob, name: str) -> str:
    """Return the batch script.

    Slurm sends USR1 to the script before the end; the script passes TERM on, at which the driver stops cleanly.
    A cancelled job gets no USR1, so it is not submitted again.
    """
    directory = output.absolute()
    margin = min(STOP_SECONDS, seconds(job.walltime) // 4)
    options = {
        "job-name": name,
        "time": job.walltime,
        "ntasks": 1,
        "cpus-per-task": job.cores,
        "gres": f"gpu:{job.gpus}" if job.gpus else None,
        "signal": f"B:USR1@{margin}",
        "output": directory / "driver-%j.log",
        "partition": job.partition,
        "account": job.account,
    }
    head = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
    activeph = str(Path(sys.executable).with_name("activeph"))  # of this environment, whatever the job's PATH is
    command = [activeph, "run", str(file.absolute()), "--output", str(directory)]
    waiting = f"squeue --me -h -o %i -t PENDING --name {shlex.quote(name)}"
    submit = f"sbatch {shlex.quote(str(directory / SCRIPT_NAME))}"  # may fail, or say so, while the controller is away
    again = f'until {submit} || [ "$({waiting})" ]; do sleep 10; done' if job.resubmit else "true"
    return "\n".join(
        [
            "#!/bin/bash",
            *head,
            *([job.scheduler_options] if job.scheduler_options else []),
            *([job.init] if job.init else []),
            f"cd {shlex.quote(str(Path.cwd()))}",
            f"{shlex.join(command)} &",
            "driver=$!",
            "out_of_time=",
            "trap 'out_of_time=yes; kill -TERM $driver' USR1",
            "wait $driver; status=$?",
            "while kill -0 $driver 2>/dev/null; do wait $driver; status=$?; done  # a signal ends a wait early",
            f'if [ "$out_of_time" ] && [ $status = 3 ]; then {again}; fi',
            "exit $status",
            "",
        ]
    )
