"""What a campaign has measured so far, read back from its run directory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.records import FloatArray
from activeph.report.metrics import goals_met, metrics_record
from activeph.rundir import RunDirectory, read_resolved


@dataclass(frozen=True)
class Picked:
    """One candidate that an arm paid for."""

    id: str
    system: str
    temperature: float  # K, NaN where the sampler knows none
    key: str  # ledger key
    uncertainty: float  # dimensionless, NaN where nothing was scored


@dataclass(frozen=True, eq=False)
class Round:
    """One evaluated round of one repeat of one arm. S test structures, P targets."""

    number: int
    labels: int  # so far
    failures: int  # set aside and replaced so far: no label, or one that was not believed
    mean: FloatArray  # [S, P] internal units
    std: FloatArray  # [S, P]
    picked: tuple[Picked, ...]
    pool_size: int
    refused: float = float("nan")  # share of the pool's draws that the sampler's guards refused, NaN where unknown
    set_aside: tuple[str, ...] = ()  # keys of what failed or was not believed, and was replaced
    prepared: int = 0  # labels of the preparation that it trained on beside ``labels``

    @property
    def keys(self) -> list[str]:
        """Ledger keys of all that the round asked for."""
        return [*(pick.key for pick in self.picked), *self.set_aside]


@dataclass(frozen=True, eq=False)
class Results:
    """Everything the report needs. ``rounds[arm][repeat]`` are the evaluated rounds in order, at least one each."""

    name: str
    target_names: tuple[str, ...]
    truth: FloatArray  # [S, P] internal units
    temperatures: FloatArray  # [S] K, NaN where unknown
    systems: tuple[str, ...]  # [S]
    baseline: str
    rounds: Mapping[str, Mapping[int, tuple[Round, ...]]]
    campaign: Mapping[str, Any] = field(default_factory=dict)  # the resolved campaign file
    costs: Mapping[str, float] = field(default_factory=dict)  # core-hours by ledger key, as far as known
    preparation: tuple[Picked, ...] = ()  # labels that every arm trains on and none has paid for

    def core_hours(self, arm: str, repeat: int) -> list[float]:
        """Return what each round of a repeat and those before it cost; unknown labels count as the mean of the known.

        NaN where no cost is known.
        """
        mean = float(np.mean(list(self.costs.values()))) if self.costs else float("nan")
        rounds = self.rounds[arm][repeat]
        return list(accumulate(sum(self.costs.get(key, mean) for key in one.keys) for one in rounds))

    @property
    def prepared(self) -> int:
        """Labels of the preparation that the arms trained on in their last rounds, beside those of their budget."""
        return max((rounds[-1].prepared for arm in self.rounds.values() for rounds in arm.values()), default=0)

    @property
    def initial(self) -> int:
        """Labels of the initial set."""
        budget = self.campaign.get("budget") or {}
        first = min((rounds[0].labels for arm in self.rounds.values() for rounds in arm.values()), default=0)
        return int(budget.get("initial") or first)

    @property
    def budget(self) -> int:
        """Labels that each repeat of each arm may spend."""
        budget = self.campaign.get("budget") or {}
        last = max((rounds[-1].labels for arm in self.rounds.values() for rounds in arm.values()), default=0)
        return int(budget.get("labels") or last)

    @property
    def finished(self) -> bool:
        """True where every repeat of every arm has spent its budget, met its goal or exhausted its pool."""
        expected = int((self.campaign.get("budget") or {}).get("repeats") or 0)
        named = self.campaign.get("arms") or self.rounds
        return bool(self.rounds) and all(
            len(repeats := self.rounds.get(arm, {})) >= expected and all(map(self._ended, repeats.values()))
            for arm in named
        )

    def _ended(self, rounds: Sequence[Round]) -> bool:
        last = rounds[-1]
        return last.labels >= self.budget or not last.picked or self._goal_met(last)

    def _goal_met(self, last: Round) -> bool:
        goals = (self.campaign.get("budget") or {}).get("target_error") or {}
        return goals_met(goals, metrics_record(self.truth, last.mean, last.std, self.target_names) if goals else {})


def load_results(run_dir: Path, costs: Mapping[str, float] | None = None) -> Results:
    """Read a run directory, finished or not: rounds without predictions are left out.

    ``costs`` are core-hours by ledger key, where they are known. Raises InputError where there is no campaign, nothing
    has been evaluated yet, a file is damaged, or predictions do not fit the labels.
    """
    paths = RunDirectory(run_dir)
    if not paths.campaign.is_file():
        raise InputError(
            f"run directory must hold campaign.yaml but got {run_dir}; give the directory that `activeph run` wrote."
        )
    campaign = read_resolved(paths.campaign)
    rounds = {arm: repeats for arm in _arm_names(paths, campaign) if (repeats := _load_arm(paths, arm))}
    if not rounds or not paths.truth.is_file():
        raise InputError(
            f"run directory must hold at least one evaluated round but got none in {run_dir}; "
            "run the campaign further, then ask again."
        )
    with _whole(paths.truth), np.load(paths.truth) as truth:
        _check_shapes(paths, rounds, truth["targets"].shape)
        return Results(
            name=str(campaign.get("name", run_dir.name)),
            target_names=tuple(str(name) for name in truth["target_names"]),
            truth=truth["targets"],
            temperatures=truth["temperatures"],
            systems=tuple(str(name) for name in truth["systems"]),
            baseline=str(campaign.get("baseline") or ("random" if "random" in rounds else next(iter(rounds)))),
            rounds=rounds,
            campaign=campaign,
            costs=costs or {},
            preparation=_preparation(paths),
        )


def _preparation(paths: RunDirectory) -> tuple[Picked, ...]:
    if not paths.preparation.is_file():
        return ()
    with _whole(paths.preparation):
        return tuple(map(_picked, json.loads(paths.preparation.read_text(encoding="utf-8"))["labels"]))


def _check_shapes(
    paths: RunDirectory, rounds: Mapping[str, Mapping[int, tuple[Round, ...]]], expected: tuple[int, ...]
) -> None:
    for arm, repeats in rounds.items():
        for repeat, found in repeats.items():
            for one in found:
                wrong = next((array.shape for array in (one.mean, one.std) if array.shape != expected), None)
                if wrong is not None:
                    raise InputError(
                        f"test predictions must have a row per test structure and a column per target, {expected}, but "
                        f"got {wrong} in {paths.round(arm, repeat, one.number)}; the run directory is damaged: restore "
                        "it from a copy or run the campaign again in a new directory."
                    )


def _arm_names(paths: RunDirectory, campaign: Mapping[str, Any]) -> list[str]:
    """Arms in the order of the campaign file."""
    found = sorted(path.name for path in (paths.root / "arms").glob("*") if path.is_dir())
    written = [str(name) for name in campaign.get("arms") or {}]
    return [name for name in written if name in found] + [name for name in found if name not in written]


def _load_arm(paths: RunDirectory, arm: str) -> dict[int, tuple[Round, ...]]:
    numbers = sorted(int(path.name.partition("-")[2]) for path in (paths.root / "arms" / arm).glob("repeat-*"))
    loaded = {number: _load_repeat(paths, arm, number) for number in numbers}
    return {number: rounds for number, rounds in loaded.items() if rounds}


def _load_repeat(paths: RunDirectory, arm: str, repeat: int) -> tuple[Round, ...]:
    rounds: list[Round] = []
    while (found := _load_round(paths.round(arm, repeat, len(rounds)), len(rounds))) is not None:
        rounds.append(found)
    return tuple(rounds)


def _load_round(folder: Path, number: int) -> Round | None:
    files = [folder / name for name in ("metrics.json", "selection.json", "test_predictions.npz")]
    if not all(path.is_file() for path in files):
        return None
    with _whole(folder):
        metrics, selection = (json.loads(path.read_text(encoding="utf-8")) for path in files[:2])
        with np.load(files[2]) as arrays:
            mean, std = arrays["mean"], arrays["std"]
        picked = tuple(_picked(entry) for entry in selection["candidates"])
        pool = int(selection["pool_size"]), _number(selection.get("refused"))
        gone = tuple(str(entry["key"]) for entry in selection.get("set_aside", ()))
        counts = metrics["labels"], metrics["failures"]
        return Round(number, *counts, mean, std, picked, *pool, gone, metrics.get("prepared", 0))


@contextmanager
def _whole(place: Path) -> Iterator[None]:
    """Turn what damaged files raise into one sentence."""
    try:
        yield
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{place} must be what the campaign wrote but got damage ({reason}); restore it from a copy or run the "
            "campaign again in a new directory."
        ) from error


def _picked(entry: Mapping[str, Any]) -> Picked:
    return Picked(
        id=str(entry["id"]),
        system=str(entry["system"]),
        temperature=_number(entry.get("temperature")),
        key=str(entry["key"]),
        uncertainty=_number(entry.get("uncertainty")),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
