"""``activeph phonons``: the vibrations that a campaign samples, as numbers and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from activeph.cli.outputs import OutputFile
from activeph.cli.rundirs import default_run
from activeph.errors import InputError

if TYPE_CHECKING:
    from activeph.config import Campaign, SystemSection
    from activeph.records import Block, FloatArray, System
    from activeph.sample.base import Sampler

PICTURES = (".png", ".svg", ".pdf")
POOL_SHOWN = 1024  # candidates looked at per arm


@click.command("phonons")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory; default: runs/<name>.")
@click.option("--picture", type=OutputFile(), metavar="FILE", help="Draw bands and density of states.")
@click.option("--compute", is_flag=True, help="First label and compute what is missing, without any round.")
@click.option("--dynamics", is_flag=True, help="Run one trajectory per temperature of arms that sample by md.")
def command(file: Path, output: Path | None, picture: Path | None, compute: bool, dynamics: bool) -> None:
    """Show frequencies and thermal displacements of the systems of the campaign FILE.

    Force constants come from the files that FILE names, or from the run directory once the campaign has computed them.
    With --compute they are computed now, as are renormalised ones and quasi-harmonic cells where a sampler wants them:
    the same labels in the same run directory that the campaign would begin with.
    """
    from activeph.config import check_inputs, load_campaign

    if picture is not None and picture.suffix not in PICTURES:
        raise InputError(
            f"--picture must end with .png, .svg or .pdf but got {picture}; write {picture.with_suffix('.png')}"
        )
    campaign = load_campaign(file)
    check_inputs(campaign)
    if compute:
        from activeph.build import prepare_campaign
        from activeph.cli.progress import open_progress

        with open_progress() as progress:
            prepare_campaign(file, output, progress)
    for section in campaign.systems:
        system = _with_force_constants(campaign, section, output)
        _tell_frequencies(system)
        _tell_cells(system)
        _tell_displacements(campaign, system)
        for name, arm in campaign.arms.items():
            _tell_pools(name, arm.sample, system, dynamics)
        if picture is not None:
            click.echo(_draw(system, picture, len(campaign.systems) > 1))


def _with_force_constants(campaign: Campaign, section: SystemSection, output: Path | None) -> System:
    """Return the system with the force constants that its file or the run directory holds, and tell which they are."""
    from activeph.config.resume import check_same_crystal
    from activeph.document import shown
    from activeph.quasi_harmonic import with_stored_cells
    from activeph.renormalisation import with_stored
    from activeph.systems import examined_force_constants

    run = default_run(campaign.name, output)
    stored = run.system(section.name)
    path = section.force_constants if isinstance(section.force_constants, Path) else stored
    if not path.exists():
        raise InputError(
            f"{section.name} must have force constants but got none in {shown(path)}; "
            "write activeph phonons --compute, or run the campaign, which computes them before anything else"
        )
    if run.campaign.exists():
        check_same_crystal(campaign, section.name, run)
    system, examination = examined_force_constants(section.system(), path)
    system = with_stored_cells(with_stored(system, section, stored.parent), stored.parent)
    renormalised = ", ".join(f"{temperature:g} K" for temperature in sorted(system.effective_force_constants))
    click.echo(
        f"{section.name}: force constants of {shown(path)} in a supercell of {len(system.supercell.numbers)} atoms"
        + (f", renormalised ones of {shown(stored.parent)} at {renormalised}" if renormalised else "")
    )
    if path is not stored:
        click.echo(f"  {examination}")
    return system


def _tell_frequencies(system: System) -> None:
    import dataclasses

    from activeph.phonons.modes import degenerate_sets, normal_modes

    frequencies = normal_modes(system).frequencies
    sets = degenerate_sets(frequencies)
    click.echo(f"{system.name}: {len(frequencies)} modes in {len(sets)} sets, {_span(frequencies)}")
    shown = ", ".join(f"{frequencies[one[0]]:.2f} ({len(one)})" for one in sets[:12])
    click.echo(f"  frequencies in THz (degeneracy): {shown}{', ...' if len(sets) > 12 else ''}")
    for temperature, constants in sorted(system.effective_force_constants.items()):
        effective = normal_modes(dataclasses.replace(system, force_constants=constants)).frequencies
        click.echo(f"  renormalised at {temperature:g} K: {_span(effective)}")


def _span(frequencies: FloatArray) -> str:
    """Return lowest and highest of sorted frequencies, and how many are imaginary."""
    return f"{frequencies[0]:.2f} to {frequencies[-1]:.2f} THz, {int((frequencies < 0).sum())} imaginary"


def _tell_displacements(campaign: Campaign, system: System) -> None:
    """Print rms displacements at the campaign's temperatures, as its first thermal sampler has them."""
    from ase.data import chemical_symbols

    from activeph.phonons.thermal import rms_per_species
    from activeph.sample.phonon import PhononSampler

    samplers: list[Any] = [arm.sample for arm in campaign.arms.values()]
    policy = next((sampler for sampler in samplers if hasattr(sampler, "ensembles")), PhononSampler())
    numbers = system.supercell.numbers[system.primitive_atoms]
    for temperature in campaign.temperatures:
        try:
            sampler = policy.model_copy(update={"temperatures": (temperature,), "amplitude": 1.0})
            ((modes, amplitudes),) = sampler.ensembles(system)
        except InputError as error:
            click.echo(f"  no thermal displacements: {error}")
            return
        sizes = rms_per_species(modes, amplitudes, numbers)
        words = ", ".join(f"{chemical_symbols[number]} {size:.3f} Å" for number, size in sizes.items())
        click.echo(f"  rms displacement at {temperature:g} K ({policy.statistics}): {words}")


def _tell_cells(system: System) -> None:
    """Print the quasi-harmonic cells."""
    import numpy as np

    for temperature, warm in sorted(system.thermal_cells.items()):
        before, after = (
            np.linalg.norm(system.unit_cell.cell @ strain, axis=1) for strain in (np.eye(3), np.eye(3) + warm.strain)
        )
        changes = after / before - 1
        told = f"all lengths {changes.mean():+.2%}"
        if np.ptp(changes) > 1e-7 or np.abs(warm.strain - changes.mean() * np.eye(3)).max() > 1e-7:
            told = ", ".join(f"{name} {change:+.2%}" for name, change in zip("abc", changes, strict=True))
        lengths = ", ".join(f"{length:.4f}" for length in after)
        click.echo(f"  quasi-harmonic cell at {temperature:g} K: {told}, unit cell {lengths} Å")


def _tell_pools(name: str, sampler: Sampler, host: System, dynamics: bool) -> None:
    """Print how far the candidates of an arm lie from their sites, and how many draws the guards refuse."""
    from activeph.sample.base import systems_of

    try:
        systems = systems_of(sampler, host)
    except InputError as error:
        click.echo(f"  arm {name}: no candidates: {error}")
        return
    for system in systems:
        where = f"arm {name}" if system is host else f"arm {name}, {system.name}"
        try:
            pool: Any = sampler.pool(system, POOL_SHOWN, 0)
            if hasattr(pool, "correlation") and dynamics:
                click.echo(f"  {where}: {_dynamics(pool, system)}")
            elif any(hasattr(part, "correlation") for part in getattr(pool, "pools", (pool,))):
                click.echo(f"  {where}: dynamics; --dynamics runs those of an arm of kind md")
            elif hasattr(pool, "refused_share"):  # else a file
                click.echo(f"  {where}: {_amplitudes(pool.block(0, pool.size), system, pool.refused_share())}")
        except InputError as error:
            click.echo(f"  {where}: no candidates: {error}")


def _dynamics(pool: Any, system: System) -> str:
    """Return what one trajectory per temperature tells."""
    block = pool.block(0, min(pool.size, len(pool.temperatures) * pool.settings.snapshots))
    correlation = pool.correlation()
    found = _amplitudes(block, system, pool.refused_share())
    return found if correlation is None else f"{found}; one snapshot and the next correlate by {correlation:.2f}"


def _amplitudes(block: Block, system: System, refused: float | None) -> str:
    import numpy as np
    from ase.data import chemical_symbols

    strains = np.linalg.inv(system.supercell.cell) @ block.cells
    squares = ((block.positions - system.supercell.positions @ strains) ** 2).sum(axis=2)
    numbers = system.supercell.numbers
    sizes = {int(Z): float(np.sqrt(squares[:, numbers == Z].mean())) for Z in np.unique(numbers)}
    words = ", ".join(f"{chemical_symbols[number]} {size:.3f} Å" for number, size in sizes.items())
    guards = "" if refused is None else f"; guards refuse {refused:.1%} of draws"
    return f"rms displacement over all temperatures {words}{guards}"


def _draw(system: System, picture: Path, several: bool) -> Path:
    from activeph.systems import effective_spectra, plot_spectra

    path = picture.with_name(f"{picture.stem}-{system.name}{picture.suffix}") if several else picture
    path.parent.mkdir(parents=True, exist_ok=True)
    plot_spectra(effective_spectra(system), path)
    return path
