"""``activeph predict``: what a trained ensemble of a campaign says of other structures."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import numpy as np

import activeph
from activeph.cli.outputs import OutputFile
from activeph.cli.rundirs import run_directory
from activeph.errors import ActivephError, InputError
from activeph.rundir import RunDirectory
from activeph.state import Step, Trajectory, fold

if TYPE_CHECKING:
    from activeph.models.base import Predictor
    from activeph.records import Configuration, FloatArray, Prediction, System


@click.command("predict")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--arm", help="Arm whose ensemble to ask; default: the first that is not the baseline.")
@click.option("--repeat", type=click.IntRange(0), default=0, show_default=True, help="Repeat of the arm.")
@click.option("--temperature", type=float, default=float("nan"), help="Temperature of the structures in K, if known.")
@click.option("-o", "--output", type=OutputFile(), metavar="CSV", help="Write here instead of printing.")
def command(model: Path, file: Path, arm: str | None, repeat: int, temperature: float, output: Path | None) -> None:
    """Predict the targets of every structure of FILE with the last ensemble of the run directory DIR.

    Structures have the atoms of one of the campaign's supercells, in its order, or elements in their place that the
    campaign's samplers put there. Each row gives the mean over the
    members and, as NAME_std, their standard deviation, in the units that reports print.
    """
    paths = run_directory(model)
    from activeph.rundir import read_resolved
    from activeph.systems import read_phonopy

    resolved = read_resolved(paths.campaign)
    step = last_step(paths, arm or default_arm(resolved), repeat)
    stored = sorted((paths.root / "systems").glob("*/phonopy_params.yaml"))
    systems = {path.parent.name: read_phonopy(path.parent.name, path) for path in stored}
    guests = _guests(resolved)
    placed = [_placed(configuration, systems, guests, row) for row, configuration in enumerate(_structures(file))]
    ensemble = _ensemble(paths, resolved, step, systems)
    prediction = _predict(ensemble, placed, temperature, _low_fidelity(resolved, placed))
    if output is None:
        _write(sys.stdout, resolved["targets"], placed, prediction)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w", newline="", encoding="utf-8") as stream:
            _write(stream, resolved["targets"], placed, prediction)
        click.echo(f"{output}: {len(placed)} structures by {step.arm}, repeat {step.repeat}, round {step.round}")


def default_arm(resolved: Mapping[str, Any]) -> str:
    """Return the first arm that is not the baseline."""
    arms = list(resolved["arms"])
    return str(next((arm for arm in arms if arm != resolved["baseline"]), arms[0]))


def last_step(paths: RunDirectory, arm: str, repeat: int) -> Step:
    """Return the last evaluated round. Raises InputError where there is none."""
    from activeph.store.journal import Journal

    state = fold(Journal(paths.journal).events())
    done = [step for step in state.steps(Trajectory(arm, repeat)) if step in state.evaluated]
    if not done:
        known = ", ".join(sorted({f"{step.arm} {step.repeat}" for step in state.evaluated})) or "none"
        raise InputError(f"--arm and --repeat must name a trained ensemble but got {arm} {repeat}; there are: {known}")
    return done[-1]


def _structures(file: Path) -> list[Configuration]:
    import ase.io

    from activeph.records import Configuration
    from activeph.systems.load import check_file

    check_file(file, "FILE")
    try:
        frames = ase.io.read(file, index=":")
    except Exception as error:
        raise InputError(
            f"FILE must hold structures that ASE reads but got {file} ({error}); try extended XYZ"
        ) from None
    return [
        Configuration(np.asarray(atoms.numbers, dtype=np.int64), np.array(atoms.positions), np.array(atoms.cell.array))
        for atoms in frames
    ]


def _guests(resolved: Mapping[str, Any]) -> list[int]:
    """Return the atomic numbers that the campaign's samplers put in the place of a crystal's own."""
    from ase.data import atomic_numbers

    from activeph.role import Role
    from activeph.sample.base import brought

    sections = [*(arm["sample"] for arm in resolved["arms"].values()), resolved["test"]["sample"]]
    samplers: list[Any] = []
    for section in sections:
        with suppress(ValueError):  # its files may have been moved since
            samplers.append(Role("samplers").validate(section))
    return [atomic_numbers[symbol] for sampler in samplers for symbol in brought(sampler)]


def _placed(
    configuration: Configuration, systems: Mapping[str, System], guests: Sequence[int], row: int
) -> tuple[str, Configuration]:
    """Return the system a structure belongs to, and the structure with every atom in the image nearest to its site.

    Of several systems it is the one with the fewest atoms replaced by ``guests``, then the nearest.
    """
    fits = {name: _nearest(configuration, system, guests) for name, system in systems.items()}
    found = {name: placed for name, placed in fits.items() if placed is not None}
    if not found:
        sizes = ", ".join(f"{name} ({len(system.supercell.numbers)} atoms)" for name, system in systems.items())
        raise InputError(
            f"structure {row} of FILE must have the atoms of a supercell in its order but got "
            f"{len(configuration.numbers)} atoms that fit none of {sizes}; build it from the campaign's supercell"
        )

    def distance(name: str) -> tuple[int, float]:
        one, site = found[name], systems[name].supercell
        return int(np.sum(one.numbers != site.numbers)), float(np.sum((one.positions - site.positions) ** 2))

    name = min(found, key=distance)
    return name, found[name]


def _nearest(configuration: Configuration, system: System, guests: Sequence[int]) -> Configuration | None:
    from activeph.records import Configuration

    site = system.supercell
    numbers = configuration.numbers
    if len(numbers) != len(site.numbers) or abs(np.linalg.det(configuration.cell)) < 1e-3:
        return None
    if not np.all((numbers == site.numbers) | np.isin(numbers, guests)):
        return None
    fractions = np.linalg.solve(site.cell.T, site.positions.T).T
    away = np.linalg.solve(configuration.cell.T, configuration.positions.T).T - fractions
    return Configuration(numbers, (fractions + away - np.rint(away)) @ configuration.cell, configuration.cell)


def _low_fidelity(resolved: Mapping[str, Any], placed: Sequence[tuple[str, Configuration]]) -> FloatArray | None:
    """Return what the campaign's cheap code says of all structures [S, 3], None where it has none."""
    if resolved.get("low_fidelity") is None:
        return None
    from activeph.cli.progress import open_progress
    from activeph.execute.processes import ProcessExecutor
    from activeph.low_fidelity import ask
    from activeph.role import Role

    labeler: Any = Role("labelers").validate(resolved["low_fidelity"])
    title, configurations = f"low fidelity by {labeler.kind}", [configuration for _, configuration in placed]
    with open_progress() as progress, ProcessExecutor().start() as workers, progress.stage(title, len(placed)) as stage:
        return ask(labeler, configurations, workers, stage)


def _predict(
    ensemble: Predictor, placed: Sequence[tuple[str, Configuration]], temperature: float, low: FloatArray | None
) -> Prediction:
    """Return what the ensemble says of all structures; neighbours of one system are asked about together."""
    from dataclasses import replace

    from activeph.dataset import stack
    from activeph.tasks import SCORING_BLOCK, join_predictions

    parts = []
    for name, group in itertools.groupby(range(len(placed)), key=lambda row: placed[row][0]):
        own = list(group)
        for start in range(0, len(own), SCORING_BLOCK):
            some = own[start : start + SCORING_BLOCK]
            block = stack(name, [placed[row][1] for row in some], [temperature] * len(some))
            parts.append(ensemble.predict(replace(block, low_fidelity=None if low is None else low[some])))
    return join_predictions(parts)


def _ensemble(paths: RunDirectory, resolved: Mapping[str, Any], step: Step, systems: Mapping[str, System]) -> Predictor:
    """Return the trained ensemble of a round. Raises InputError where this version cannot read it."""
    from activeph.models.learner import learner
    from activeph.role import Role

    try:
        chosen: Any = Role("models").validate(resolved["model"])
        model = learner(chosen, resolved["targets"], resolved.get("low_fidelity") is not None)
        states = [paths.member(*step, member).read_bytes() for member in range(model.members)]
        return model.load(states, systems)
    except (ActivephError, OSError):
        raise
    except Exception as error:  # whatever another version wrote
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"DIR must hold an ensemble that activeph {activeph.__version__} can read but got {reason!r} from "
            f"{paths.root}; use the version of activeph that trained it, or run the campaign anew"
        ) from None


def _write(
    stream: TextIO, targets: Sequence[str], placed: Sequence[tuple[str, Configuration]], prediction: Prediction
) -> None:
    from activeph.targets import TARGETS

    units = [TARGETS[name] for name in targets]
    table = csv.writer(stream, lineterminator="\n")
    columns = [word for target in units for word in (f"{target.name} ({target.printed_unit})", f"{target.name}_std")]
    table.writerow(["structure", "system", *columns])
    for row, (name, _) in enumerate(placed):
        values = [_pair(prediction, row, column, unit.printed_factor) for column, unit in enumerate(units)]
        table.writerow([row, name, *(f"{value:.6g}" for pair in values for value in pair)])


def _pair(prediction: Prediction, row: int, column: int, factor: float) -> FloatArray:
    return np.array([prediction.mean[row, column], prediction.std[row, column]]) * factor
