"""What models have in common that learn through another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from activeph.models.base import Model, Traced, read_arrays


@dataclass(frozen=True)
class Around:
    """A model around another one, whose state lies in its own under ``model``; to a user it is that one."""

    model: Model

    @property
    def kind(self) -> str:
        """The inner model's ``kind``."""
        return self.model.kind

    @property
    def members(self) -> int:
        """Number of independent fits."""
        return self.model.members

    def inner(self, state: bytes) -> bytes:
        """Return the state of the inner model in a member's."""
        return bytes(read_arrays(state, "model")["model"].tobytes())

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return how the training of the inner model went, nothing where that takes no steps."""
        return self.model.learning_curve(self.inner(state)) if isinstance(self.model, Traced) else ()
