"""What workers do besides labelling: train a member, score a part of a pool, predict a dataset. Picklable, pure.

A worker reads members' states from the run directory (shared by all nodes of a cluster), so that a task stays small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.models.base import CURVE_COLUMNS, Model, Predictor, Traced
from activeph.records import Block, Dataset, Prediction, System
from activeph.rundir import write_bytes
from activeph.sample.base import Sampler


@dataclass(frozen=True)
class FitTask:
    """Train one member on a dataset and write its state to ``path``."""

    model: Model
    dataset: Dataset
    systems: Mapping[str, System]
    seed: int
    warm: Path | None
    path: Path


@dataclass(frozen=True)
class ScoreTask:
    """Predict candidates start..stop-1 of a pool with the ensemble whose states lie at ``states``."""

    model: Model
    states: tuple[Path, ...]
    systems: Mapping[str, System]
    sampler: Sampler
    system: str
    n: int
    seed: int
    start: int
    stop: int


@dataclass(frozen=True)
class PredictTask:
    """Predict blocks with the ensemble whose states lie at ``states``."""

    model: Model
    states: tuple[Path, ...]
    systems: Mapping[str, System]
    blocks: tuple[Block, ...]


SCORING_BLOCK = 256  # candidates predicted at once: bounds memory, and fixed so that scores do not depend on chunks


def fit_member(task: FitTask) -> Path:
    """Run a :class:`FitTask`; return where the state is. How the training went is beside it, as a table (CSV).

    Raises InputError where the state that it begins from is damaged.
    """
    warm = task.warm.read_bytes() if task.warm else None
    try:
        state = task.model.fit(task.dataset, task.systems, task.seed, warm)
    except Exception:
        if task.warm:
            _load(task.model, [task.warm], task.systems)  # raises where what it begins from is to blame
        raise
    if isinstance(task.model, Traced) and (curve := task.model.learning_curve(state)):
        write_bytes(task.path.with_suffix(".csv"), curve_table(curve))
    write_bytes(task.path, state)
    return task.path


def curve_table(points: Sequence[tuple[float, ...]]) -> bytes:
    """Return a learning curve as a table with the names of its columns."""
    rows = [CURVE_COLUMNS[: max(map(len, points))], *([f"{value:.6g}" for value in point] for point in points)]
    return "".join(",".join(row) + "\n" for row in rows).encode()


def score_pool(task: ScoreTask) -> Prediction:
    """Run a :class:`ScoreTask`; candidates are drawn, scored and forgotten block by block."""
    predictor = _load(task.model, task.states, task.systems)
    pool = task.sampler.pool(task.systems[task.system], task.n, task.seed)
    starts = range(task.start, task.stop, SCORING_BLOCK)
    blocks = (pool.block(start, min(start + SCORING_BLOCK, task.stop)) for start in starts)
    return join_predictions([predictor.predict(block) for block in blocks])


@dataclass(frozen=True)
class TemperatureTask:
    """Tell the temperatures of candidates start..stop-1 of a pool."""

    systems: Mapping[str, System]
    sampler: Sampler
    system: str
    n: int
    seed: int
    start: int
    stop: int


def pool_temperatures(task: TemperatureTask) -> NDArray[np.float32]:
    """Run a :class:`TemperatureTask`: [stop - start] K, NaN where the sampler knows none; nothing else is kept."""
    pool = task.sampler.pool(task.systems[task.system], task.n, task.seed)
    starts = range(task.start, task.stop, SCORING_BLOCK)
    blocks = (pool.block(start, min(start + SCORING_BLOCK, task.stop)) for start in starts)
    return np.concatenate([block.temperatures.astype(np.float32) for block in blocks])


def predict_blocks(task: PredictTask) -> Prediction:
    """Run a :class:`PredictTask`; structures follow the blocks one after the other."""
    predictor = _load(task.model, task.states, task.systems)
    return join_predictions([predictor.predict(block) for block in task.blocks])


def join_predictions(parts: Sequence[Prediction]) -> Prediction:
    """Concatenate predictions of one ensemble along the structures; features are kept in single precision."""
    spreads = [part.spread for part in parts if part.spread is not None]
    return Prediction(
        members=np.concatenate([part.members for part in parts], axis=1),
        features=np.concatenate([np.asarray(part.features, dtype=np.float32) for part in parts]),
        scale=parts[0].scale,
        spread=np.concatenate(spreads) if spreads else None,
    )


def _load(model: Model, states: Sequence[Path], systems: Mapping[str, System]) -> Predictor:
    """Return the ensemble of some members. Raises InputError naming the first that cannot be read."""
    contents = [path.read_bytes() for path in states]
    try:
        return model.load(contents, systems)
    except Exception:
        for path, content in zip(states, contents, strict=True):
            try:
                model.load([content], systems)
            except Exception as error:
                said = str(error).partition("\n")[0] or type(error).__name__
                reason = said.rpartition(" but got ")[2].partition(";")[0]
                raise InputError(
                    f"{path} must be a trained member but got damage ({reason}); "
                    "remove it and run again to have it trained anew, or restore it from a copy."
                ) from error
        raise
