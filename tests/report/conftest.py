"""Campaigns made of chance, with learning curves that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from activeph.report.results import Picked, Results, Round

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
        Picked(
            f"phonon-{number}-{i}", "KBr", float(rng.choice([150.0, 300.0])), f"{rng.integers(2**48):012x}", 0.1, False
        )
        for i in range(10)
    )


@pytest.fixture(name="simulate")
def simulate_fixture() -> Callable[..., Results]:
    return simulate
