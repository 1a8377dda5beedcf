"""What a cheap code says of the labelled configurations, where the model learns corrections to it (Δ-learning).

Its calculations lie in the ledger beside the labels, under their own fingerprint. They cost no budget of labels; their
core-hours count like all others. A configuration for which it fails is kept and not asked about again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from activeph.dataset import electronic
from activeph.errors import InputError
from activeph.execute.base import Workers
from activeph.identity import label_key
from activeph.label.base import Labeler
from activeph.labelling import Obtained, obtain
from activeph.loop import Loop
from activeph.progress import Stage
from activeph.records import Configuration, FloatArray, Label
from activeph.state import Pick, State, Step, Trajectory
from activeph.store.ledger import Ledger
from activeph.targets import ELECTRONIC


def supplement(loop: Loop, steps: Sequence[Step]) -> None:
    """Ask the cheap code about whatever the steps train and are tested on and it has not been asked about."""
    labeler = loop.campaign.low_fidelity
    if labeler is None:
        return
    fingerprint = labeler.fingerprint
    labels = {pick.key: loop.labels.get(pick.key) for pick in _picks(loop.state, steps)}
    wanted: dict[str, Configuration] = {}
    for label in labels.values():
        if isinstance(label, Label):
            key = label_key(label.configuration, fingerprint)
            if loop.ledger.state(key) is None:
                wanted[key] = label.configuration
    if wanted:
        with loop.progress.stage(f"round {steps[0].round}: low fidelity", len(wanted)) as stage:

            def count(one: Obtained) -> None:
                refuse_without_bands(labeler.kind, one)
                stage.advance()

            obtain(labeler, wanted, loop.ledger, loop.workers, count)


def ask(labeler: Labeler, configurations: Sequence[Configuration], workers: Workers, stage: Stage) -> FloatArray:
    """Return what a cheap code says of the targets read off the bands [S, 3] in eV, NaN where it fails.

    Nothing is kept. Raises InputError where it gives no bands at all, Paused where most of it fails.
    """

    def count(one: Obtained) -> None:
        refuse_without_bands(labeler.kind, one)
        stage.advance()

    with tempfile.TemporaryDirectory(prefix="activeph-low-fidelity-") as folder:
        found = obtain(labeler, configurations, Ledger(Path(folder)), workers, count)
    fingerprint = labeler.fingerprint
    outcomes = [found[label_key(configuration, fingerprint)] for configuration in configurations]
    return np.array([electronic(one if isinstance(one, Label) else None) for one in outcomes]).reshape(-1, 3)


def refuse_without_bands(kind: str, one: Obtained) -> None:
    """Raise InputError where a cheap code gives none of the targets read off the bands."""
    if isinstance(one.outcome, Label) and not np.isfinite(one.outcome.band_gap):
        raise InputError(
            f"low_fidelity must be a labeler that gives {', '.join(ELECTRONIC)} but got {kind}, which does not; "
            "use another kind or leave low_fidelity out"
        )


def _picks(state: State, steps: Sequence[Step]) -> Iterable[Pick]:
    yield from state.test or ()
    for step in steps:
        yield from state.training(Trajectory(step.arm, step.repeat), before=step.round + 1)
