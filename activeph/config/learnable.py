"""Does the model learn what the campaign asks for, of the atoms that its samplers propose?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from activeph.label.base import Labeler
from activeph.models.base import Model
from activeph.sample.base import brought
from activeph.section import wrong_value
from activeph.targets import ELECTRONIC


def refuse_unlearnable(targets: Sequence[str], model: Model) -> None:
    """Raise a validation error at the first target that the model cannot learn.

    A model that learns only some targets names them in ``learns``; every other model learns all of them.
    """
    learns = getattr(model, "learns", None)
    strange = [name for name in targets if learns is not None and name not in learns]
    if learns is not None and strange:
        raise wrong_value(
            f"must be among {', '.join(learns)}, which is all that model.kind {model.kind} learns",
            "write 'targets:' without it or choose another model",
            repr(strange[0]),
            ("targets",),
        )


def refuse_idle(low_fidelity: Labeler | None, targets: Sequence[str]) -> None:
    """Raise a validation error where a cheap code would be asked about nothing that is learned."""
    if low_fidelity is not None and not set(targets) & set(ELECTRONIC):
        raise wrong_value(
            f"must be left out where none of {', '.join(ELECTRONIC)} is among the targets",
            "energies and stresses are learned without it; remove it",
            low_fidelity.kind,
            ("low_fidelity",),
        )


def refuse_other_atoms(samplers: Mapping[str, Any], model: Model) -> None:
    """Raise a validation error where a sampler (named by its key) replaces atoms and the model cannot follow.

    A model of fixed atoms has ``keeps_atoms``, true.
    """
    changing = [key for key, sampler in samplers.items() if brought(sampler)]
    if changing and getattr(model, "keeps_atoms", False):
        raise wrong_value(
            f"must be a model of crystals whose atoms change, as those of {changing[0]} do",
            "write 'model: modes-gnn' or 'model: gnn'",
            model.kind,
            ("model", "kind"),
        )
