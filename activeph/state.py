"""Where a campaign stands: a fold over its journal, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    wave: int = 0  # of the pools of the test set: those that replace what failed come from pools of their own


@dataclass(frozen=True)
class SetAside:
    """A pick that another one has replaced: it counts for no budget and is not trained on."""

    pick: Pick
    reason: str  # kind of the failure, or ``outlier``
    message: str


PREPARED = Step("", 0, -1)
"""Stands for the labels of the preparation that every trajectory trains on: drawn by no arm, before any round."""

OUTLIER = "outlier"
"""Why a label is set aside that is converged but not believed; a user may accept it."""


@dataclass(frozen=True)
class State:
    """Finished steps. Whatever is missing is still to be done.

    ``None`` as a step stands for the test set, :data:`PREPARED` for the labels of the preparation.
    """

    test: tuple[Pick, ...] | None = None
    prepared: tuple[Pick, ...] | None = None  # that every trajectory trains on and none has spent; None: not asked yet
    picks: Mapping[Step, tuple[Pick, ...]] = field(default_factory=dict)  # those that count
    set_aside: Mapping[Step | None, tuple[SetAside, ...]] = field(default_factory=dict)
    waves: Mapping[Step | None, int] = field(default_factory=dict)  # how often a step has replaced picks
    accepted: frozenset[str] = frozenset()  # keys of outliers that the user has looked at and found right
    pool_sizes: Mapping[Step, int] = field(default_factory=dict)
    refused: Mapping[Step, float] = field(default_factory=dict)  # share of draws that guards refused, where known
    labelled: frozenset[Step] = frozenset()  # steps whose labels are all in the ledger
    trained: frozenset[Step] = frozenset()
    evaluated: Mapping[Step, Mapping[str, Any]] = field(default_factory=dict)  # metrics of each step

    def steps(self, trajectory: Trajectory) -> list[Step]:
        """Return the rounds of a trajectory that have picks, in order."""
        return sorted(step for step in self.picks if step[:2] == trajectory)

    def spent(self, trajectory: Trajectory, before: int | None = None) -> list[Pick]:
        """Return the picks of a trajectory that count, or those of rounds before a number."""
        steps = [step for step in self.steps(trajectory) if before is None or step.round < before]
        return [pick for step in steps for pick in self.picks[step]]

    def training(self, trajectory: Trajectory, before: int | None = None) -> list[Pick]:
        """Return what a trajectory trains on: labels of the preparation, then its own, each once, none of the test set.

        Of equal configurations its own counts, since it has paid for it.
        """
        spent = self.spent(trajectory, before)
        known = {pick.key for pick in spent} | {pick.key for pick in self.test or ()} if self.prepared else set()
        return [*(pick for pick in self.prepared or () if pick.key not in known), *spent]

    def replaced(self, trajectory: Trajectory, before: int | None = None) -> list[SetAside]:
        """Return what a trajectory has set aside, or what it had before a round: failures and outliers."""
        steps = [step for step in self.steps(trajectory) if before is None or step.round < before]
        return [each for step in steps for each in self.set_aside.get(step, ())]

    def counting(self, step: Step | None) -> Sequence[Pick]:
        """Return the picks of a step that count; none where it has chosen nothing yet."""
        if step is None or step == PREPARED:
            return (self.test if step is None else self.prepared) or ()
        return self.picks.get(step, ())

    def chosen(self, step: Step | None) -> list[Pick]:
        """Return all picks of a step, those set aside included."""
        return [*self.counting(step), *(each.pick for each in self.set_aside.get(step, ()))]


def fold(events: Iterable[Mapping[str, Any]]) -> State:
    """Return the state after all events of a journal, oldest first."""
    return Fold().after(list(events))


def selection_event(step: Step, picks: Iterable[Pick], pool_size: int, refused: float | None) -> dict[str, Any]:
    """Return the journal line that makes a selection true; ``refused`` is the share of draws that guards refused."""
    pool = {"pool_size": pool_size, "refused": refused}
    return {"event": "select", **step._asdict(), **pool, "picks": [asdict(pick) for pick in picks]}


def replacement_event(step: Step | None, out: Iterable[SetAside], picks: Iterable[Pick]) -> dict[str, Any]:
    """Return the journal line that puts other picks in the place of some of a step (None: of the test set)."""
    place = dict.fromkeys(Step._fields) if step is None else step._asdict()
    gone = [{"key": each.pick.key, "reason": each.reason, "message": each.message} for each in out]
    return {"event": "replace", **place, "out": gone, "picks": [asdict(pick) for pick in picks]}


def acceptance_event(key: str) -> dict[str, Any]:
    """Return the journal line that takes an outlier back among the labels."""
    return {"event": "accept", "key": key}


class Fold:
    """What :class:`State` holds, while it is put together: plain dictionaries, so that a long journal stays cheap.

    Given a journal again that has grown, it takes in what is new; another journal needs another fold.
    """

    def __init__(self) -> None:
        self.n_events = 0
        self.chosen: dict[Step | None, list[Pick]] = {}
        self.aside: dict[Step | None, list[SetAside]] = {}
        self.waves: dict[Step | None, int] = {}
        self.accepted: set[str] = set()
        self.pool_sizes: dict[Step, int] = {}
        self.refused: dict[Step, float] = {}
        self.labelled: set[Step] = set()
        self.trained: set[Step] = set()
        self.evaluated: dict[Step, Mapping[str, Any]] = {}

    def after(self, events: Sequence[Mapping[str, Any]]) -> State:
        """Return the state after all events of a journal, of which this has seen the first ones already."""
        for event in events[self.n_events :]:
            self._apply(event)
        self.n_events = len(events)
        return self._state()

    def _apply(self, event: Mapping[str, Any]) -> None:
        """Take one event in. Raises ActivephError for one that this version does not know."""
        kind = event.get("event")
        if kind == "accept":
            self._accept(event["key"])
            return
        step = None if event.get("arm") is None else Step(event["arm"], event["repeat"], event["round"])
        if kind in ("test", "prepare"):
            self.chosen[None if kind == "test" else PREPARED] = _picks(event)
        elif kind == "replace":
            self._replace(step, event)
        elif step is None or kind not in ("select", "label", "train", "evaluate"):
            raise ActivephError(
                f"journal event must be one this version knows but got {kind!r}; use the newer version."
            )
        elif kind == "select":
            self.chosen[step] = _picks(event)
            self.pool_sizes[step] = event["pool_size"]
            if event.get("refused") is not None:
                self.refused[step] = event["refused"]
        elif kind == "label":
            self.labelled.add(step)
        elif kind == "train":
            self.trained.add(step)
        else:
            self.evaluated[step] = event["metrics"]

    def _replace(self, step: Step | None, event: Mapping[str, Any]) -> None:
        out = {gone["key"]: gone for gone in event["out"]}
        for pick in self.chosen[step]:
            if pick.key in out:
                gone = out[pick.key]
                self.aside.setdefault(step, []).append(SetAside(pick, gone["reason"], gone["message"]))
        self.chosen[step] = [pick for pick in self.chosen[step] if pick.key not in out] + _picks(event)
        self.waves[step] = self.waves.get(step, 0) + 1

    def _accept(self, key: str) -> None:
        self.accepted.add(key)
        for step, gone in self.aside.items():
            self.chosen[step] += [each.pick for each in gone if each.pick.key == key]
            self.aside[step] = [each for each in gone if each.pick.key != key]

    def _state(self) -> State:
        return State(
            test=tuple(self.chosen[None]) if None in self.chosen else None,
            prepared=tuple(self.chosen[PREPARED]) if PREPARED in self.chosen else None,
            picks={step: tuple(picks) for step, picks in self.chosen.items() if step is not None and step != PREPARED},
            set_aside={step: tuple(gone) for step, gone in self.aside.items() if gone},
            waves=dict(self.waves),
            accepted=frozenset(self.accepted),
            pool_sizes=dict(self.pool_sizes),
            refused=dict(self.refused),
            labelled=frozenset(self.labelled),
            trained=frozenset(self.trained),
            evaluated=dict(self.evaluated),
        )


def _picks(event: Mapping[str, Any]) -> list[Pick]:
    return [Pick(**pick) for pick in event["picks"]]
