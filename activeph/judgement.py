"""Which labels of a batch are set aside: compared with the test set, with each other, and with the last ensemble.

A verdict belongs to a label, not to an arm: what was found unsound once is unsound for every arm and repeat, and what
a finished step has trained on stays. What the user accepted is not judged again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from activeph.dataset import stack
from activeph.loop import Loop, member_paths
from activeph.outliers import Facts, contradictions, facts_of, surprises
from activeph.proposal import run_all
from activeph.records import FloatArray, Label
from activeph.state import OUTLIER, PREPARED, Pick, SetAside, State, Step
from activeph.tasks import PredictTask, predict_blocks

ENERGY = "energy_per_atom"


def doubted(loop: Loop, step: Step | None) -> list[SetAside]:
    """Return the labelled picks of a step (see :class:`State`) that are not to be trained on, and why."""
    state = loop.state
    picks = state.counting(step)
    known = {each.pick.key: each for gone in state.set_aside.values() for each in gone if each.reason == OUTLIER}
    out = [SetAside(pick, OUTLIER, known[pick.key].message) for pick in picks if pick.key in known]
    settled = state.accepted | known.keys() | _trained_on(state)
    for name in loop.systems:
        fresh = _labels(loop, [pick for pick in picks if pick.system == name and pick.key not in settled])
        for numbers in sorted({_atoms(label) for _, label in fresh}):
            group = [(pick, label) for pick, label in fresh if _atoms(label) == numbers]
            out += _judged(loop, state, step, name, group)
    return out


def _trained_on(state: State) -> set[str]:
    """Return the keys of labels that finished steps or the test set hold already."""
    first = (None, PREPARED) if state.labelled else ()
    return {pick.key for step in (*state.labelled, *first) for pick in state.counting(step)}


def _labels(loop: Loop, picks: Sequence[Pick]) -> list[tuple[Pick, Label]]:
    found = [(pick, loop.labels.get(pick.key)) for pick in picks]
    return [(pick, label) for pick, label in found if isinstance(label, Label)]


def _atoms(label: Label) -> tuple[int, ...]:
    """Return what two labels share that can be compared: their atoms, whatever sites they are on."""
    return tuple(sorted(label.configuration.numbers.tolist()))


def _judged(
    loop: Loop, state: State, step: Step | None, name: str, group: Sequence[tuple[Pick, Label]]
) -> list[SetAside]:
    system, labels = loop.systems[name], [label for _, label in group]
    new = facts_of(labels, system)
    test: list[tuple[Pick, Label]] = []
    if step is not None:
        wanted = [pick for pick in state.test or () if pick.system == name]
        test = [each for each in _labels(loop, wanted) if _atoms(each[1]) == _atoms(labels[0])]
    reference = facts_of([label for _, label in test], system)
    reasons = contradictions(new, _joined(new, reference))
    if step is not None and step.round > 0 and test and ENERGY in loop.campaign.targets:
        before = Step(step.arm, step.repeat, step.round - 1)
        predicted, spread = _energies(loop, before, name, labels)
        expected, _ = _energies(loop, before, name, [label for _, label in test])
        found = surprises(new, predicted, spread, reference, expected)
        reasons = [first or second for first, second in zip(reasons, found, strict=True)]
    return [SetAside(pick, OUTLIER, why) for (pick, _), why in zip(group, reasons, strict=True) if why]


def _energies(loop: Loop, step: Step, name: str, labels: Sequence[Label]) -> tuple[FloatArray, FloatArray]:
    """Return the energies of labelled configurations (eV, whole cell) that an ensemble predicts, and their spread."""
    block = stack(name, [label.configuration for label in labels], [np.nan] * len(labels))
    task = PredictTask(loop.campaign.learner, member_paths(loop, step), loop.systems, (block,))
    title = f"round {step.round + 1}: comparing labels with the ensemble"
    (prediction,) = run_all(loop.workers, predict_blocks, [task], title, loop.progress)
    column, n_atoms = loop.campaign.targets.index(ENERGY), len(labels[0].configuration.numbers)
    return prediction.mean[:, column] * n_atoms, prediction.std[:, column] * n_atoms


def _joined(first: Facts, second: Facts) -> Facts:
    names = Facts.__dataclass_fields__
    return Facts(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))
