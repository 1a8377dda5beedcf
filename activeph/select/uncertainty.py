"""The batch of largest spread, chosen by modAL's regression strategy."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from activeph.records import FloatArray, IntArray, Prediction
from activeph.select.base import FeatureArray, ScoredSelector


class UncertaintySelector(ScoredSelector):
    """Takes the candidates whose ensemble members disagree most; near copies of one another included.

    The query is modAL's ``max_std_sampling``, which leaves equal spreads in no particular order; here the lowest
    index goes first. The measure is :attr:`activeph.records.Prediction.uncertainty`.
    """

    kind: Literal["uncertainty"] = "uncertainty"
    needs_spread: ClassVar[bool] = True  # of one member there is none: all candidates would tie

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        from modAL.disagreement import max_std_sampling  # imports scikit-learn

        from activeph.select.modal_learner import EnsembleLearner

        learner = EnsembleLearner(pool, labelled)
        chosen, _ = max_std_sampling(learner, pool.features, n_instances=n)
        return _settle_ties(np.asarray(chosen), pool.uncertainty)


def _settle_ties(chosen: IntArray, scores: FloatArray) -> IntArray:
    """Order by score, then index, and exchange those that tie with the last one for the lowest indices."""
    last = scores[chosen].min()
    certain = np.flatnonzero(scores > last)
    tied = np.flatnonzero(scores == last)[: len(chosen) - len(certain)]
    order = np.lexsort((certain, -scores[certain]))
    return np.concatenate([certain[order], tied])
