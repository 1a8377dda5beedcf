"""The seam between the loop and everything that learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from activeph.records import Block, Dataset, Prediction, System


class Predictor(Protocol):
    """A trained ensemble, ready to score."""

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        ...


class Model(Protocol):
    """A recipe: how one member is trained, and how members together predict. Picklable, holds no weights."""

    @property
    def kind(self) -> str:
        """What a campaign file calls it."""
        ...

    @property
    def members(self) -> int:
        """Number of independent fits; each may run in another process."""
        ...

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member and return its state: deterministic in (dataset, seed, warm), ``warm`` an earlier state."""
        ...

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> Predictor:
        """Return the ensemble made of the members' states."""
        ...
