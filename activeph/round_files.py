"""What the report reads of a campaign's rounds: files made of the journal, the labels and the members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from activeph.loop import Loop, dataset_of, member_paths
from activeph.proposal import run_all
from activeph.records import Dataset, Prediction
from activeph.rundir import write_arrays, write_json
from activeph.state import PREPARED, State, Step
from activeph.tasks import PredictTask, predict_blocks


def predict_test_set(loop: Loop, steps: Sequence[Step], title: str) -> tuple[Dataset, list[Prediction]]:
    """Return the test set and what the ensemble of each step says of it, which is written into the step's folder."""
    truth, model = dataset_of(loop, loop.state.test or ()), loop.campaign.learner
    tasks = [PredictTask(model, member_paths(loop, step), loop.systems, truth.blocks) for step in steps]
    predictions = run_all(loop.workers, predict_blocks, tasks, title, loop.progress)
    for step, prediction in zip(steps, predictions, strict=True):
        write_arrays(loop.directory.predictions(*step), mean=prediction.mean, std=prediction.std)
    return truth, predictions


def write_selection(loop: Loop, step: Step, state: State) -> None:
    """Write what a step chose and what of it was set aside."""
    gone = [{**asdict(each.pick), "reason": each.reason} for each in state.set_aside.get(step, ())]
    content = {
        **step._asdict(),
        "pool_size": state.pool_sizes[step],
        "refused": state.refused.get(step),
        "candidates": [asdict(pick) for pick in state.picks[step]],
        "set_aside": gone,
    }
    write_json(loop.directory.selection(*step), content)


def write_preparation(loop: Loop, state: State) -> None:
    """Write which labels of the preparation every arm trains on, where there are any."""
    if state.prepared:
        gone = [{**asdict(each.pick), "reason": each.reason} for each in state.set_aside.get(PREPARED, ())]
        content = {"labels": [asdict(pick) for pick in state.prepared], "set_aside": gone}
        write_json(loop.directory.preparation, content)


def write_truth(loop: Loop, state: State) -> None:
    """Write the targets of the test set."""
    picks = state.test or ()
    truth = dataset_of(loop, picks)
    temperatures = np.concatenate([block.temperatures for block in truth.blocks])
    systems = np.concatenate([[block.system] * len(block) for block in truth.blocks])
    write_arrays(
        loop.directory.truth,
        targets=truth.targets,
        temperatures=temperatures,
        systems=systems,
        target_names=np.array(truth.target_names),
    )
