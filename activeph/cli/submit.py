"""``activeph submit``: the campaign's driver as a job of Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from activeph.cli.run import refuse_foreign_folder
from activeph.errors import InputError

if TYPE_CHECKING:
    from activeph.execute.driver_job import DriverJob
    from activeph.execute.slurm_executor import SlurmExecutor


@click.command("submit")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory; default: runs/<name>.")
@click.option("--walltime", metavar="D-HH:MM:SS", help="Length of the job; default: execute.walltime of FILE.")
@click.option("--resubmit", is_flag=True, help="Submit the job again whenever its walltime has stopped the campaign.")
def command(file: Path, output: Path | None, walltime: str | None, resubmit: bool) -> None:
    """Run the campaign of FILE from a job of Slurm instead of from this terminal.

    The job needs one core: labels are computed and models trained in jobs of their own. Before its walltime is over
    it stops cleanly; submitting again continues. Partition, account, quality of service and worker_init are those of
    the section execute.
    """
    from activeph.config import load_campaign
    from activeph.execute.driver_job import submit_driver
    from activeph.execute.slurm_executor import SlurmExecutor

    campaign = load_campaign(file)
    if not isinstance(campaign.execute, SlurmExecutor):
        raise InputError(
            f"execute.kind must be slurm for a driver's job but got {campaign.execute.kind!r}; "
            f"change it, or type 'activeph run {file}'"
        )
    refuse_foreign_folder(output)
    job = _job(campaign.execute, walltime or campaign.execute.walltime, resubmit)
    campaign.execute.check()
    directory = output or Path("runs") / campaign.name
    number = submit_driver(file, directory, job)
    click.echo(
        f"submitted job {number}; 'activeph status {directory}' shows where the campaign stands, "
        f"{directory / f'driver-{number}.log'} what it says"
    )


def _job(executor: SlurmExecutor, walltime: str, resubmit: bool) -> DriverJob:
    """Return what to ask for: the ways into the cluster that the labels' jobs use, not their nodes and accelerators."""
    from pydantic import ValidationError

    from activeph.execute.driver_job import DriverJob

    try:
        return DriverJob(
            walltime=walltime,
            partition=executor.partition,
            account=executor.account,
            resubmit=resubmit,
            scheduler_options=f"#SBATCH --qos={executor.qos}" if executor.qos else "",
            init=executor.worker_init,
        )
    except ValidationError:
        raise InputError(
            f"--walltime must be hours:minutes:seconds, after days and a dash if any, but got {walltime!r}; "
            "write for example 24:00:00 or 2-00:00:00"
        ) from None
