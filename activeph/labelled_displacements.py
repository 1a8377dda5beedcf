"""Labels of finite displacements, through the ledger: what force constants are made of."""

from __future__ import annotations

from collections.abc import Sequence

from activeph.errors import Paused
from activeph.identity import aligned, label_key
from activeph.label.base import Labeler
from activeph.labelling import obtain
from activeph.loop import counting
from activeph.means import Means
from activeph.records import Configuration, Failure, Label, System
from activeph.systems import finite_displacements


def label_displacements(system: System, distance: float, labeler: Labeler, title: str, means: Means) -> list[Label]:
    """Return the labels of :func:`activeph.systems.finite_displacements`, the undisplaced crystal first.

    ``distance`` is in Å. Raises Paused where one of them has no label.
    """
    return label_all(
        finite_displacements(system, distance), f"finite displacements of {system.name}", labeler, title, means
    )


def label_all(
    configurations: Sequence[Configuration], what: str, labeler: Labeler, title: str, means: Means
) -> list[Label]:
    """Return the labels of configurations that are all needed; ``what`` they are. Raises Paused where one has none."""
    with means.progress.stage(title, len(configurations)) as stage:
        count = counting(means.campaign, labeler, stage)
        found = obtain(labeler, configurations, means.ledger, means.workers, count)
    labels = []
    for configuration in configurations:
        key = label_key(configuration, labeler.fingerprint)
        outcome = found[key]
        if isinstance(outcome, Failure):
            raise Paused(
                f"{what} must all converge but got {outcome.kind}: {outcome.message}; "
                f"see {means.ledger.directory(key)}, or give force_constants as a file."
            )
        labels.append(aligned(outcome, configuration))
    return labels
