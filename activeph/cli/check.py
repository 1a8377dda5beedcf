"""``activeph check``: everything that can be known before anything is spent."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from activeph.cli.progress import duration, open_progress
from activeph.errors import InputError

if TYPE_CHECKING:
    from activeph.cli.forecast import Forecast, Trial
    from activeph.config import Campaign
    from activeph.records import System


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--no-label", is_flag=True, help="Do not try the labeler; then there is no forecast of time.")
def command(file: Path, no_label: bool) -> None:
    """Check the campaign of FILE and forecast its labels.

    Reads file and structures, tries the labeler on one small cell (and on the supercell if quick) in a temporary
    folder, and tells how many labels each arm may take, how long they last, and what they cost in core-hours and disk.
    """
    from activeph.cli.forecast import count_labels, count_low_fidelity
    from activeph.config import check_inputs, load_campaign

    campaign = load_campaign(file)
    check_inputs(campaign)
    check_executor = getattr(campaign.execute, "check", None)
    if check_executor is not None:
        check_executor()
    click.echo(f"{file}: the file is valid")
    systems = _systems(campaign)
    if no_label:
        _tell_counts(count_labels(campaign, systems) | count_low_fidelity(campaign))
        return
    forecasts = _forecasts(campaign, systems)
    if forecasts:
        _tell(forecasts, campaign.budget.core_hours)


def _forecasts(campaign: Campaign, systems: Sequence[System]) -> list[Forecast]:
    """Try the labeler, and the cheap code where there is one; return what those that compute will cost."""
    from activeph.cli.forecast import count_labels, count_low_fidelity, forecast

    tried = [(count_labels(campaign, systems), _trials(campaign, systems))]
    if campaign.low_fidelity is not None:
        click.echo("low fidelity: one calculation beside every label, and for every structure that is predicted")
        cheap = campaign.model_copy(update={"label": campaign.low_fidelity, "targets": ("band_gap",)})
        tried.append((count_low_fidelity(campaign), _trials(cheap, systems)))
    for counts, trials in tried:
        if not trials:
            _tell_counts(counts)
    return [forecast(campaign, systems, trials[-1], counts) for counts, trials in tried if trials]


def _systems(campaign: Campaign) -> list[System]:
    """Return the systems and tell about them; pools are opened where force constants are given already."""
    from ase.formula import Formula

    from activeph.quasi_harmonic import expansion_temperatures
    from activeph.renormalisation import wanted_temperatures
    from activeph.sample.base import systems_of
    from activeph.systems import examined_force_constants

    systems = []
    for section in campaign.systems:
        given = section.force_constants if isinstance(section.force_constants, Path) else None
        system = section.system()
        formula = Formula.from_list(_symbols(system)).format("metal")
        click.echo(f"{section.name}: {formula}, supercell of {len(system.supercell.numbers)} atoms")
        if given is not None:
            system, examination = examined_force_constants(system, given)
            click.echo(f"  {examination}")
        warm = wanted_temperatures(campaign) or expansion_temperatures(campaign)
        if given is not None and not warm:  # else they are not drawn from as they are
            for sampler in [*(arm.sample for arm in campaign.arms.values()), campaign.test.sample]:
                for one in systems_of(sampler, system):
                    sampler.pool(one, 1, 0).block(0, 1)
        systems.append(system)
    return systems


def _symbols(system: System) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in system.unit_cell.numbers]


def _trials(campaign: Campaign, systems: Sequence[System]) -> list[Trial]:
    """Try the labeler on the largest system. Raises InputError where it gives no label."""
    from activeph.cli.forecast import try_labeler
    from activeph.loop import refuse_absent_targets
    from activeph.records import Failure

    largest = max(systems, key=lambda system: len(system.supercell.numbers))
    with open_progress() as progress, progress.stage(f"trying the labeler {campaign.label.kind}"):
        trials = try_labeler(campaign, largest)
    for trial in trials:
        place = f"{largest.name}, {trial.what} of {trial.n_atoms} atoms"
        if not isinstance(trial.outcome, Failure):
            click.echo(f"{place}: labelled in {duration(trial.seconds)}")
            refuse_absent_targets(campaign, trial.outcome)
        elif trial.outcome.kind == "missing":
            click.echo(f"{place}: this labeler only knows its files' configurations; its labels cost nothing")
            return []
        else:
            raise InputError(
                f"labeler {campaign.label.kind} must label the {place} but got {trial.outcome.kind}: "
                f"{trial.outcome.message}; correct its settings or the structure"
            )
    return trials


def _tell_counts(counts: Mapping[str, int]) -> None:
    for purpose, labels in counts.items():
        click.echo(f"{purpose}: at most {labels} labels")


def _tell(forecasts: Sequence[Forecast], core_hours: float | None) -> None:
    rows = {
        purpose: (number, one.wall_time(number), one.core_hours(number), number * one.size)
        for one in forecasts
        for purpose, number in one.labels.items()
    }
    number = sum(one.total for one in forecasts)
    time = _sum(one.wall_time(one.total) for one in forecasts)
    low, high = _sum(one.core_hours(one.total) for one in forecasts)
    size = sum(one.total * one.size for one in forecasts)
    width = max(map(len, rows), default=0)
    click.echo(f"\n{'':{width}}  labels  {'labelling':>24}  core-hours      disk")
    for purpose, (n, seconds, hours, disk) in {**rows, "at most": (number, time, (low, high), size)}.items():
        click.echo(f"{purpose:{width}}  {n:6}  {_times(seconds):>24}  {_hours(hours):>10}  {_bytes(disk):>8}")
    one = forecasts[0]
    many = f"{one.workers} workers" if one.workers > 1 else "1 worker"
    each = f"{one.cores} cores" if one.cores > 1 else "1 core"
    click.echo(f"\nTimes are those of {many} with {each} per label; training comes on top, and the")
    click.echo(
        "disk for models. Arms share equal configurations; what fails is replaced, which costs core-hours alone."
    )
    if core_hours is not None and high > core_hours:
        sure = "will" if low > core_hours else "may"
        click.echo(f"budget.core_hours: the campaign {sure} pause at its limit of {core_hours:g} core-hours")
    free = shutil.disk_usage(Path()).free
    if size > free:
        click.echo(f"disk: labels need {_bytes(size)} but {_bytes(free)} are free here")


def _sum(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*spans, strict=True)
    return sum(lows), sum(highs)


def _times(span: tuple[float, float]) -> str:
    low, high = (duration(seconds) for seconds in span)
    return low if low == high else f"{low} to {high}"


def _bytes(number: float) -> str:
    """Return a size as people say it: ``48 kB``, ``3.1 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _hours(span: tuple[float, float]) -> str:
    low, high = (f"{float(f'{hours:.2g}'):g}" for hours in span)
    return low if low == high else f"{low}-{high}"
