"""Training the ensembles of a round's steps, each member warm-started from the round before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from activeph.loop import Loop, dataset_of, member_paths
from activeph.proposal import run_all
from activeph.records import Dataset
from activeph.seeds import derive_seed
from activeph.state import State, Step, Trajectory
from activeph.tasks import FitTask, fit_member


def train(loop: Loop, steps: Sequence[Step]) -> None:
    """Train the ensemble of every step on all that its trajectory has labelled."""
    state = loop.state
    missing = [step for step in steps if step not in state.trained]
    tasks = FitTasks(loop, state, missing)
    run_all(loop.workers, fit_member, tasks, f"round {steps[0].round}: training", loop.progress)
    for step in missing:
        loop.journal.append({"event": "train", **step._asdict()})


class FitTasks(Sequence[FitTask]):
    """One task per step and member, warm-started from the round before.

    The labels of a step are put together when its first task is asked for and forgotten after its last: large
    campaigns start training at once, and hold the labels of one trajectory.
    """

    def __init__(self, loop: Loop, state: State, steps: Sequence[Step]) -> None:
        self._loop, self._state, self._steps = loop, state, steps
        self._members = loop.campaign.model.members
        self._latest: tuple[Step, Dataset] | None = None

    def __len__(self) -> int:
        return len(self._steps) * self._members

    @overload
    def __getitem__(self, index: int) -> FitTask: ...
    @overload
    def __getitem__(self, index: slice) -> list[FitTask]: ...
    def __getitem__(self, index: int | slice) -> FitTask | list[FitTask]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        step, member = self._steps[range(len(self))[index] // self._members], index % self._members
        loop, before = self._loop, Step(step.arm, step.repeat, step.round - 1)
        warm = loop.directory.member(*before, member) if step.round else None
        # the same seed for all arms: what differs between them is the data alone
        seed = derive_seed(loop.campaign.seed, "member", step.repeat, step.round, member)
        path = member_paths(loop, step)[member]
        return FitTask(loop.campaign.learner, self._dataset(step), loop.systems, seed, warm, path)

    def _dataset(self, step: Step) -> Dataset:
        if self._latest is None or self._latest[0] != step:
            picks = self._state.training(Trajectory(step.arm, step.repeat), before=step.round + 1)
            self._latest = (step, dataset_of(self._loop, picks))
            self._loop.labels.save()
        return self._latest[1]
