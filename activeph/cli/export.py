"""``activeph export``: the labelled dataset, which is what a campaign is run for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from activeph.cli.outputs import OutputFile, OutputPlace
from activeph.cli.rundirs import run_directory
from activeph.errors import InputError

FORMATS = ("extxyz", "ase-db", "hdf5")
MODELS = "mace"
SPLITS = ("train", "validation", "test")


@click.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice((*FORMATS, MODELS)),
    default="extxyz",
    show_default=True,
    help="Format of FILE; mace writes the trained models instead of the labels, into a folder.",
)
@click.option("-o", "--output", type=OutputPlace(), required=True, metavar="FILE", help="File (or folder) to write.")
@click.option("--arm", help="Arm whose models to write; default: the first that is not the baseline.")
@click.option("--repeat", type=click.IntRange(0), default=0, show_default=True, help="Repeat of the arm.")
def command(directory: Path, file_format: str, output: Path, arm: str | None, repeat: int) -> None:
    """Write all labels of the run directory DIR to FILE, with targets, provenance and a fixed split.

    Beside FILE lies a data card (FILE.md). Energies, forces and stresses are named REF_energy, REF_forces and
    REF_stress, as the trainer of MACE expects them. With --format mace, FILE is a folder that gets the last committee
    of an arm as member-0.model, member-1.model, ...: files for ASE's MACECalculator and for mace_create_lammps_model.
    """
    if file_format == MODELS:
        export_models(directory, output, arm, repeat)
        return
    OutputFile().check(output, "--output")
    check_name(file_format, output)
    paths = run_directory(directory)
    from activeph.entries import campaign_entries
    from activeph.rundir import read_resolved
    from activeph.state import fold
    from activeph.store.export import export_entries
    from activeph.store.journal import Journal
    from activeph.store.ledger import Ledger

    entries = campaign_entries(fold(Journal(paths.journal).events()), Ledger(paths.labels))
    targets = read_resolved(paths.campaign).get("targets", [])
    for path in export_entries(entries, file_format, output, targets):
        click.echo(path)
    counts = [f"{sum(entry.split == split for entry in entries)} {split}" for split in SPLITS]
    click.echo(f"{len(entries)} labels: {', '.join(counts)}")


def check_name(file_format: str, output: Path) -> None:
    """Raise InputError where the readers of a format, which go by the ending of a file, would not know the file."""
    if file_format == "ase-db" and output.suffix != ".db":
        raise InputError(
            f"--output must end with .db, by which ASE knows its databases, but got {output}; "
            f"write {output.with_suffix('.db')}"
        )


def export_models(directory: Path, folder: Path, arm: str | None, repeat: int) -> None:
    """Write the members of a trained committee as model files. Raises InputError where the model has none."""
    from activeph.cli.predict import default_arm, last_step
    from activeph.role import Role
    from activeph.rundir import read_resolved

    paths = run_directory(directory)
    resolved = read_resolved(paths.campaign)
    model: Any = Role("models").validate(resolved["model"])
    if not hasattr(model, "export"):
        raise InputError(
            f"--format {MODELS} must have a run with model.kind {MODELS} but got {model.kind}; use predict"
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"--output must be a new or empty folder but got {folder}; choose another name")
    step = last_step(paths, arm or default_arm(resolved), repeat)
    states = [paths.member(*step, member).read_bytes() for member in range(model.members)]
    for path in model.export(states, folder):
        click.echo(path)
    click.echo(f"{len(states)} models of {step.arm}, repeat {step.repeat}, round {step.round}")
