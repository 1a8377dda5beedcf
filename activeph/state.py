"""Where a campaign stands: a fold over its journal, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from activeph.errors import ActivephError


class Trajectory(NamedTuple):
    """One repeat of one arm: the thing that spends a budget."""

    arm: str
    repeat: int


class Step(NamedTuple):
    """One round of one trajectory."""

    arm: str
    repeat: int
    round: int


@dataclass(frozen=True)
class Pick:
    """What the journal keeps of a chosen candidate; its configuration is drawn again from the pool when needed."""

    id: str
    system: str
    index: int  # in the pool of its system
    temperature: float | None  # K
    key: str  # ledger key
    uncertainty: float | None  # dimensionless, None where nothing was scored


@dataclass(frozen=True)
class State:
    """Finished steps. Whatever is missing is still to be done."""

    test: tuple[Pick, ...] | None = None
    picks: Mapping[Step, tuple[Pick, ...]] = field(default_factory=dict)
    pool_sizes: Mapping[Step, int] = field(default_factory=dict)
    labelled: frozenset[Step] = frozenset()  # steps whose labels are all in the ledger
    trained: frozenset[Step] = frozenset()
    evaluated: Mapping[Step, Mapping[str, Any]] = field(default_factory=dict)  # metrics of each step

    def steps(self, trajectory: Trajectory) -> list[Step]:
        """Return the rounds of a trajectory that have picks, in order."""
        return sorted(step for step in self.picks if step[:2] == trajectory)

    def spent(self, trajectory: Trajectory, before: int | None = None) -> list[Pick]:
        """Return all picks of a trajectory, or those of rounds before a number: labels and failures alike."""
        steps = [step for step in self.steps(trajectory) if before is None or step.round < before]
        return [pick for step in steps for pick in self.picks[step]]


def fold(events: Iterable[Mapping[str, Any]]) -> State:
    """Return the state after all events of a journal, oldest first."""
    state = State()
    for event in events:
        state = _apply(state, event)
    return state


def selection_event(step: Step, picks: Iterable[Pick], pool_size: int) -> dict[str, Any]:
    """Return the journal line that makes a selection true."""
    return {"event": "select", **step._asdict(), "pool_size": pool_size, "picks": [asdict(pick) for pick in picks]}


def _apply(state: State, event: Mapping[str, Any]) -> State:
    kind = event["event"]
    if kind == "test":
        return replace(state, test=_picks(event))
    if kind not in ("select", "label", "train", "evaluate"):
        raise ActivephError(f"journal event must be one this version knows but got {kind!r}; use the newer version.")
    step = Step(event["arm"], event["repeat"], event["round"])
    if kind == "select":
        return replace(
            state,
            picks={**state.picks, step: _picks(event)},
            pool_sizes={**state.pool_sizes, step: event["pool_size"]},
        )
    if kind == "label":
        return replace(state, labelled=state.labelled | {step})
    if kind == "train":
        return replace(state, trained=state.trained | {step})
    return replace(state, evaluated={**state.evaluated, step: event["metrics"]})


def _picks(event: Mapping[str, Any]) -> tuple[Pick, ...]:
    return tuple(Pick(**pick) for pick in event["picks"])
