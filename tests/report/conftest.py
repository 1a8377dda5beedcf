"""Campaigns made of chance, with learning curves that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from activeph.report.metrics import metrics_record
from activeph.report.results import Picked, Results, Round
from activeph.rundir import RunDirectory, write_arrays, write_json

UNITS = {"band_gap": 0.4, "energy_per_atom": 0.01, "hydrostatic_stress": 0.003}


def simulate(
    curves: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    *,
    labels: Sequence[int] = (10, 20, 30, 40, 50, 60),
    repeats: int = 3,
    persistent: float = 0.05,
    scatter: float = 0.08,
    structures: int = 100,
    targets: Sequence[str] = ("band_gap",),
    seed: int = 0,
    campaign: Mapping[str, Any] | None = None,
) -> Results:
    """Return results whose expected MAE after n labels is ``curves[arm](n)`` times the target's unit."""
    rng = np.random.default_rng(seed)
    units = np.array([UNITS[name] for name in targets])
    truth = rng.normal(size=(structures, len(targets))) * units
    hardness = rng.uniform(0.5, 1.5, size=(structures, len(targets)))
    counts = np.array(labels, dtype=float)
    rounds: dict[str, dict[int, tuple[Round, ...]]] = {}
    for arm, curve in curves.items():
        rounds[arm] = {}
        for repeat in range(repeats):
            noise = persistent * rng.normal() + scatter * rng.normal(size=len(counts))
            sizes = curve(counts) * np.exp(noise) * np.sqrt(np.pi / 2)
            sign = rng.normal(size=truth.shape) * hardness
            done = []
            for number, size in enumerate(sizes):
                blend = 0.8 * sign + 0.6 * rng.normal(size=truth.shape) * hardness
                std = np.abs(size * units * hardness * rng.uniform(0.5, 1.1, size=truth.shape))
                done.append(
                    Round(number, int(counts[number]), 0, truth + size * units * blend, std, _picks(number, rng), 5000)
                )
            rounds[arm][repeat] = tuple(done)
    temperatures = rng.choice([150.0, 300.0, 450.0, 600.0], size=structures)
    filed = {"name": "simulated", "arms": {arm: {} for arm in curves}}
    return Results(
        "simulated",
        tuple(targets),
        truth,
        temperatures,
        ("KBr",) * structures,
        "random",
        rounds,
        {**filed, **(campaign or {})},
    )


def _picks(number: int, rng: np.random.Generator) -> tuple[Picked, ...]:
    return tuple(
        Picked(f"phonon-{number}-{i}", "KBr", float(rng.choice([150.0, 300.0])), f"{rng.integers(2**48):012x}", 0.1)
        for i in range(10)
    )


@pytest.fixture(scope="session", name="simulate")
def simulate_fixture() -> Callable[..., Results]:
    return simulate


def write_run(results: Results, folder: Path) -> Path:
    """Write results as the loop writes them."""
    paths = RunDirectory(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths.campaign.write_text(yaml.safe_dump({"baseline": results.baseline, **results.campaign}, sort_keys=False))
    names = np.array(results.target_names)
    write_arrays(
        paths.truth,
        targets=results.truth,
        temperatures=results.temperatures,
        systems=np.array(results.systems),
        target_names=names,
    )
    for arm, repeats in results.rounds.items():
        for repeat, rounds in repeats.items():
            for one in rounds:
                place = {"arm": arm, "repeat": repeat, "round": one.number}
                directory = paths.round(arm, repeat, one.number)
                write_arrays(directory / "test_predictions.npz", mean=one.mean, std=one.std)
                targets = metrics_record(results.truth, one.mean, one.std, results.target_names)
                spent = {"labels": one.labels, "failures": one.failures}
                write_json(directory / "metrics.json", {**place, **spent, "targets": targets})
                candidates = [asdict(pick) for pick in one.picked]
                selection = {**place, "pool_size": one.pool_size, "candidates": candidates}
                write_json(directory / "selection.json", selection)
    return folder


@pytest.fixture(scope="session", name="write_run")
def write_run_fixture() -> Callable[[Results, Path], Path]:
    return write_run
