"""Propose, score, select: from the pools of an arm to the candidates of one round."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from activeph.config import Campaign
from activeph.errors import ActivephError, InputError, Paused
from activeph.execute.base import Workers
from activeph.progress import Progress
from activeph.records import Block, Candidate, Facts, Failed, IntArray, Prediction, System
from activeph.sample.base import Pool, Sampler, pick, refused_share, systems_of
from activeph.seeds import derive_seed, generator
from activeph.state import Pick, Step
from activeph.store.durable import NO_SPACE
from activeph.store.ledger import Ledger
from activeph.store.packed import LabelPack
from activeph.tasks import (
    SCORING_BLOCK,
    PredictTask,
    ScoreTask,
    TemperatureTask,
    join_predictions,
    pool_temperatures,
    predict_blocks,
    score_pool,
)

SCORING_TASK = 2 * SCORING_BLOCK  # candidates per task: small enough to fill the workers, large enough to be worth one
DRAWING_TASK = 64 * SCORING_BLOCK  # the same where candidates are drawn alone, hundreds of times as fast
Task = TypeVar("Task")
Value = TypeVar("Value")
ID_CHUNK = 10_000  # names compared at once, so that a pool of a million does not hold a million strings


@dataclass(frozen=True)
class Pools:
    """The pools of one sampler over all systems, indexed as one sequence in the order of the campaign's systems."""

    sampler: Sampler
    names: tuple[str, ...]  # of the systems
    sizes: tuple[int, ...]  # asked of each system; a finite source may hold fewer
    seeds: tuple[int, ...]
    pools: tuple[Pool, ...]

    @property
    def lengths(self) -> list[int]:
        """True sizes of the systems' pools."""
        return [pool.size for pool in self.pools]

    @property
    def refused(self) -> float | None:
        """Share of draws that the samplers' guards refuse, mean over the systems' pools; None where none has guards."""
        shares = [share for pool in self.pools if (share := refused_share(pool)) is not None]
        return float(np.mean(shares)) if shares else None

    def free(self, taken: Collection[tuple[str, str]]) -> IntArray:
        """Return the joint indices of candidates that are not among ``taken`` (system, id)."""
        free = np.ones(sum(self.lengths), dtype=bool)
        offset = 0
        for name, pool in zip(self.names, self.pools, strict=True):
            ids = {identifier for system, identifier in taken if system == name}
            for start in range(0, pool.size if ids else 0, ID_CHUNK):
                indices = range(start, min(start + ID_CHUNK, pool.size))
                for index, identifier in zip(indices, pool.ids(indices), strict=True):
                    free[offset + index] = identifier not in ids
            offset += pool.size
        return np.flatnonzero(free)

    def split(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        """Return (number of the system, index in its pool) of each joint index."""
        edges = np.cumsum([0, *self.lengths])
        numbers = np.searchsorted(edges, np.asarray(indices, dtype=np.int64), side="right") - 1
        return [(int(n), int(i - edges[n])) for n, i in zip(numbers, indices, strict=True)]

    def candidates(self, indices: Sequence[int]) -> list[Candidate]:
        """Return the candidates at joint indices."""
        places = self.split(indices)
        found = {
            number: dict(zip(own, pick(pool, own), strict=True))
            for number, pool in enumerate(self.pools)
            if (own := [index for place, index in places if place == number])
        }
        return [found[number][index] for number, index in places]


def campaign_pools(campaign: Campaign, systems: Mapping[str, System], step: Step) -> Pools:
    """Return the pools of one round. Arms with equal samplers see equal pools in the same repeat and round."""
    sampler = campaign.arms[step.arm].sample
    # the first arm with this sampler names the stream: no path or hash in it, so a moved campaign draws the same
    word = next(name for name, arm in campaign.arms.items() if arm.sample == sampler)
    words = ("pool", word, step.repeat, step.round)
    return _pools(campaign, sampler, systems, campaign.pool, words)


def test_pools(campaign: Campaign, systems: Mapping[str, System], wave: int) -> Pools:
    """Return the pools that the test set is drawn from: wave 0, then those that replace what failed."""
    words = ("test", wave) if wave else ("test",)
    return _pools(campaign, campaign.test.sample, systems, campaign.test.n, words)


def choose_at_random(seed: int, pools: Pools, n: int, taken: Collection[tuple[str, str]]) -> list[int]:
    """Return up to ``n`` distinct joint indices of candidates that are not taken."""
    free = pools.free(taken)
    return [int(index) for index in free[generator(seed).permutation(len(free))[:n]]]


@dataclass(frozen=True)
class Request:
    """One trajectory's wish for a batch."""

    step: Step
    n: int
    taken: frozenset[tuple[str, str]]  # (system, id) of what is spent or in the test set
    states: tuple[Path, ...]  # members trained in the round before
    labelled: tuple[Block, ...]
    wave: int = 0  # how often the step has replaced failures: each time the selector has its own random numbers
    seconds: Mapping[str, float] = field(default_factory=dict)  # expected of a label, by system


def select(
    campaign: Campaign, systems: Mapping[str, System], requests: Sequence[Request], workers: Workers, progress: Progress
) -> dict[Step, tuple[list[int], list[float] | None]]:
    """Return the joint pool indices that each request selects, and their uncertainties where they were scored.

    One pool is scored after the other, its tasks spread over all workers, so that memory holds the scores of one.
    """
    chosen = {}
    for request in requests:
        selector = campaign.arms[request.step.arm].select
        scores = _score(campaign, systems, request, workers, progress) if selector.needs_model else None
        needs_facts = getattr(selector, "needs_facts", False)
        facts = _facts(campaign, systems, request, workers, progress) if needs_facts else None
        chosen[request.step] = _select_one(campaign, systems, request, scores, facts)
    return chosen


def _select_one(
    campaign: Campaign,
    systems: Mapping[str, System],
    request: Request,
    scores: tuple[Prediction, Prediction] | None,
    facts: Facts | None,
) -> tuple[list[int], list[float] | None]:
    free = campaign_pools(campaign, systems, request.step).free(request.taken)
    n = min(request.n, len(free))
    if n == 0:
        return [], None
    selector = campaign.arms[request.step.arm].select
    words = (request.step.repeat, request.step.round, *([request.wave] if request.wave else []))
    rng = generator(campaign.seed, "select", *words)
    if scores is None:
        chosen = selector.select(facts.take(free) if facts else len(free), np.empty((0, 0)), n, rng)
        return [int(index) for index in free[chosen]], None
    pool, labelled = replace(scores[0], facts=facts), scores[1]
    if len(free) < len(pool.features):
        pool = pool.take(free)
    chosen = selector.select(pool, labelled.features, n, rng)
    return [int(index) for index in free[chosen]], [float(value) for value in pool.uncertainty[chosen]]


def _score(
    campaign: Campaign, systems: Mapping[str, System], request: Request, workers: Workers, progress: Progress
) -> tuple[Prediction, Prediction]:
    """Return the predictions of the pool and of the labelled set of a request."""
    title = f"round {request.step.round}: scoring for {request.step.arm}, repeat {request.step.repeat}"
    labelled = PredictTask(campaign.learner, request.states, systems, request.labelled)
    known = run_all(workers, predict_blocks, [labelled], f"{title}, labelled set", progress)
    pools = campaign_pools(campaign, systems, request.step)
    tasks = [
        ScoreTask(campaign.learner, request.states, systems, pools.sampler, *part)
        for part in _parts(pools, SCORING_TASK)
    ]
    parts = run_all(workers, score_pool, tasks, title, progress, [task.stop - task.start for task in tasks])
    return join_predictions(parts), known[0]


def _facts(
    campaign: Campaign, systems: Mapping[str, System], request: Request, workers: Workers, progress: Progress
) -> Facts:
    """Return what is known of the pool of a request without a model; drawing it for its temperatures."""
    title = f"round {request.step.round}: temperatures for {request.step.arm}, repeat {request.step.repeat}"
    pools = campaign_pools(campaign, systems, request.step)
    tasks = [TemperatureTask(systems, pools.sampler, *part) for part in _parts(pools, DRAWING_TASK)]
    parts = run_all(workers, pool_temperatures, tasks, title, progress, [task.stop - task.start for task in tasks])
    return Facts(
        names=pools.names,
        systems=np.repeat(np.arange(len(pools.names), dtype=np.int16), pools.lengths),
        temperatures=np.concatenate(parts),
        seconds=np.array([request.seconds.get(name, np.nan) for name in pools.names]),
        targets=campaign.targets,
        hosts=tuple(systems[name].host for name in pools.names),
    )


def _parts(pools: Pools, size: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield what tasks of at most ``size`` candidates name their share by: system, n, seed, start and stop."""
    for name, n, seed, length in zip(pools.names, pools.sizes, pools.seeds, pools.lengths, strict=True):
        for start in range(0, length, size):
            yield name, n, seed, start, min(start + size, length)


def label_seconds(picks: Sequence[Pick], ledger: Ledger | LabelPack, systems: Mapping[str, System]) -> dict[str, float]:
    """Return the mean wall time of the calculations of ``picks`` by system, labels and failures alike, in s.

    A system without any is guessed from the others, time growing with the square of the number of atoms; empty where
    no time is known.
    """
    times: dict[str, list[float]] = {}
    for chosen in picks:
        known = ledger.get(chosen.key)
        seconds = (known.provenance.get("wall_time") if known else None) or 0.0
        if seconds > 0:
            times.setdefault(chosen.system, []).append(float(seconds))
    if not times:
        return {}
    means = {name: float(np.mean(values)) for name, values in times.items()}
    squares = {name: float(len(system.supercell.numbers)) ** 2 for name, system in systems.items()}
    pace = float(np.mean([mean / squares[name] for name, mean in means.items()]))
    return {name: means.get(name, pace * square) for name, square in squares.items()}


WRONG_INPUT = f"{InputError.__name__}: "
"""What the failure of a task begins with that has met a user's mistake."""


def run_all(
    workers: Workers,
    function: Callable[[Task], Value],
    tasks: Sequence[Task],
    title: str,
    progress: Progress,
    sizes: Sequence[int] | None = None,
) -> list[Value]:
    """Return the values of all tasks in their order. Raises ActivephError with the remote traceback if one fails.

    Raises Paused where the file system has no room, and InputError where a task does.
    """
    values: dict[int, Value] = {}
    if not tasks:
        return []
    sizes = sizes or [1] * len(tasks)
    with progress.stage(title, sum(sizes)) as stage:
        for outcome in workers.map(function, tasks):
            if isinstance(outcome, Failed):
                number = re.match(r"OSError: \[Errno (\d+)\]", outcome.error)
                if number and int(number[1]) in NO_SPACE:
                    raise Paused(
                        f"step {title!r} must write its files but got {outcome.error}; mend that, then run again."
                    )
                if outcome.error.startswith(WRONG_INPUT):
                    raise InputError(outcome.error.removeprefix(WRONG_INPUT))
                raise ActivephError(
                    f"step {title!r} must finish but got {outcome.error}; run again to repeat it.\n{outcome.traceback}"
                )
            values[outcome.index] = outcome.value
            stage.advance(sizes[outcome.index])
    return [values[index] for index in range(len(tasks))]


def _pools(
    campaign: Campaign, sampler: Sampler, systems: Mapping[str, System], n: int, words: tuple[str | int, ...]
) -> Pools:
    hosts = [systems[section.name] for section in campaign.systems]
    names = tuple(dict.fromkeys(system.name for host in hosts for system in systems_of(sampler, host)))
    sizes = tuple(n // len(names) + (number < n % len(names)) for number in range(len(names)))
    seeds = tuple(derive_seed(campaign.seed, *words, name) for name in names)
    pools = tuple(sampler.pool(systems[name], size, seed) for name, size, seed in zip(names, sizes, seeds, strict=True))
    if not any(pool.size for pool in pools):
        raise InputError(f"sampler {sampler.kind!r} must offer candidates but got none; check its settings.")
    return Pools(sampler, names, sizes, seeds, pools)
