"""The seam between scores and batches."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from activeph.records import IntArray, Prediction


class Selector(Protocol):
    """Chooses a batch from a scored pool: a pure function of its arguments."""

    kind: str

    @property
    def needs_model(self) -> bool:
        """False where the choice does not look at predictions, so that the pool need not be scored."""
        ...

    def select(
        self,
        pool: Prediction | int,
        labelled_features: NDArray[np.floating[Any]],
        n: int,
        rng: np.random.Generator,
    ) -> IntArray:
        """Return ``n`` distinct pool indices. ``pool`` is the pool's size alone where ``needs_model`` is false.

        ``labelled_features`` [L, D] are the features of what the arm has labelled already.
        """
        ...
