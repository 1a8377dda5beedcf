"""Furthest-point sampling: always the candidate that is most unlike everything taken so far."""

from __future__ import annotations

from typing import Literal

import numpy as np

from activeph.records import IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector
from activeph.select.distances import centred, start


class MaxDistSelector(ScoredSelector):
    """Picks the candidate whose nearest labelled or picked neighbour is furthest; serves the worst case, not the mean.

    T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985). Ties go to the lowest index. Without a labelled set the first
    pick is the candidate nearest to the pool's mean.
    """

    kind: Literal["maxdist"] = "maxdist"

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        distances, picks = start(*centred(pool.features, labelled))
        while len(picks) < n:
            furthest = float(distances.nearest.max())
            tied = distances.nearest >= max(furthest - distances.tolerance, 0.0)
            pick = int(np.argmax(tied))
            distances.take(pick)
            picks.append(pick)
        return np.array(picks, dtype=np.int64)
