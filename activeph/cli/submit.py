"""``activeph submit``: the campaign's driver as a job of Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from activeph.cli.run import refuse_foreign_folder
from activeph.errors import InputError

if TYPE_CHECKING:
    from activeph.config import Campaign
    from activeph.execute.driver_job import DriverJob


@click.command("submit")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory; default: runs/<name>.")
@click.option(
    "--walltime", metavar="D-HH:MM:SS", help="Length of the job; default: execute.walltime of FILE, or a day."
)
@click.option("--partition", metavar="NAME", help="Partition of the job; default: execute.partition of FILE.")
@click.option("--account", metavar="NAME", help="Account that pays; default: execute.account of FILE.")
@click.option(
    "--cores",
    type=click.IntRange(1),
    metavar="N",
    help="Cores of the job; default: 1 with kind slurm, else what execute.workers of FILE need.",
)
@click.option("--resubmit", is_flag=True, help="Submit the job again whenever its walltime has stopped the campaign.")
def command(file: Path, output: Path | None, resubmit: bool, **asked: Any) -> None:
    """Run the campaign of FILE from a job of Slurm instead of from this terminal.

    With execute.kind slurm the job needs one core: labels are computed and models trained in jobs of their own, and
    partition, account, quality of service and worker_init are those of the section execute. With processes or serial
    the campaign runs in the job itself, on the cores of one node. Before its walltime is over it stops cleanly;
    submitting again continues.
    """
    from activeph.config import load_campaign
    from activeph.execute.driver_job import submit_driver
    from activeph.execute.slurm_executor import SlurmExecutor

    campaign = load_campaign(file)
    refuse_foreign_folder(output)
    job = _job(file, campaign, {**asked, "resubmit": resubmit})
    executor = campaign.execute if isinstance(campaign.execute, SlurmExecutor) else SlurmExecutor()
    executor.model_copy(update={"partition": job.partition}).check(
        "--partition" if asked["partition"] else "execute.partition"
    )
    directory = output or Path("runs") / campaign.name
    number = submit_driver(file, directory, job)
    click.echo(
        f"submitted job {number}; 'activeph status {directory}' shows where the campaign stands, "
        f"{directory / f'driver-{number}.log'} what it says"
    )


def _job(file: Path, campaign: Campaign, asked: dict[str, Any]) -> DriverJob:
    """Return what to ask for, what was asked on the command line first."""
    from pydantic import ValidationError

    from activeph.execute.driver_job import DriverJob

    facts = _of_campaign(file, campaign, asked["cores"]) | {name: one for name, one in asked.items() if one is not None}
    try:
        return DriverJob.model_validate(facts)
    except ValidationError:
        raise InputError(
            f"--walltime must be hours:minutes:seconds, after days and a dash if any, but got {facts['walltime']!r}; "
            "write for example 24:00:00 or 2-00:00:00"
        ) from None


def _of_campaign(file: Path, campaign: Campaign, cores: int | None) -> dict[str, Any]:
    """Return what the campaign tells of the driver's job.

    With Slurm's own executor: the ways into the cluster that the labels' jobs use, not their nodes and accelerators.
    """
    from activeph.config.budget import cores_per_label
    from activeph.execute.processes import ProcessExecutor
    from activeph.execute.serial import SerialExecutor
    from activeph.execute.slurm_executor import SlurmExecutor

    executor = campaign.execute
    if isinstance(executor, SlurmExecutor):
        return {
            "walltime": executor.walltime,
            "partition": executor.partition,
            "account": executor.account,
            "scheduler_options": f"#SBATCH --qos={executor.qos}" if executor.qos else "",
            "init": executor.worker_init,
        }
    each = cores_per_label(executor, campaign.label)
    if isinstance(executor, SerialExecutor):
        return {"cores": each}
    if not isinstance(executor, ProcessExecutor):
        raise InputError(
            f"execute.kind must be slurm, processes or serial for a driver's job but got {executor.kind!r}; "
            f"change it, or type 'activeph run {file}'"
        )
    if executor.workers is None and cores is None:
        raise InputError(
            "the cores of a job must be known beforehand but got no number; write --cores, or execute.workers into the "
            "file"
        )
    return {"cores": each * (executor.workers or 1), "gpus": executor.gpus}
