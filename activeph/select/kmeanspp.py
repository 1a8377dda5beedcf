"""The seeding of k-means++ as a batch: random, but rarely where something has been taken already."""

from __future__ import annotations

from typing import Literal

import numpy as np

from activeph.records import IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector
from activeph.select.distances import centred, start


class KMeansPlusPlusSelector(ScoredSelector):
    """Draws each pick with a chance proportional to the squared distance from what is labelled or picked.

    D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007. Without a labelled set the
    first pick is the candidate nearest to the pool's mean.
    """

    kind: Literal["kmeans++"] = "kmeans++"

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        distances, picks = start(*centred(pool.features, labelled))
        while len(picks) < n:
            cumulated = np.cumsum(np.maximum(distances.nearest, 0.0), dtype=np.float64)
            if cumulated[-1] > 0:
                pick = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
            else:
                pick = distances.lowest_free()
            distances.take(pick)
            picks.append(pick)
        return np.array(picks, dtype=np.int64)
