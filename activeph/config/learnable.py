"""Does the model learn what the campaign asks for?"""

from __future__ import annotations

from collections.abc import Sequence

from activeph.models.base import Model
from activeph.section import wrong_value


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
