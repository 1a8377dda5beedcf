"""What a campaign trains: the chosen model and what it needs beside it."""

from __future__ import annotations

from collections.abc import Sequence

from activeph.models.base import Model
from activeph.models.low_fidelity import WithLowFidelity
from activeph.models.stress import with_stress


def learner(model: Model, target_names: Sequence[str], low_fidelity: bool) -> Model:
    """Return a model that learns the targets, the electronic ones on top of a cheap code if there is ``low_fidelity``.

    It is ``model`` itself where nothing is needed beside it.
    """
    return with_stress(WithLowFidelity(model) if low_fidelity else model, target_names)
