"""An ensemble's predictions in the shape modAL expects of its learners, optimizers and committees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from activeph.errors import InputError
from activeph.records import FloatArray, Prediction
from activeph.select.base import FeatureArray

N_BINS = 10
"""Classes that a committee votes for: tenths of the pool, ordered by the mean prediction of the first target."""


class EnsembleLearner:
    """Answers modAL's questions about the pool from predictions already made. Nothing is trained or changed.

    Regression strategies read ``predict``: the first target's mean in units of its scale, and the spread over all
    targets. modAL's classifier strategies read ``predict_proba``: two classes whose smaller probability grows with
    the spread and is one half where it is largest, so that uncertainty, margin and entropy all rank by spread.
    Disagreement strategies read the members' votes: in which tenth of the pool each puts the candidate.
    """

    on_transformed = False

    def __init__(self, pool: Prediction, labelled: FeatureArray) -> None:
        # modAL's own cold start may return its first pick twice, so an empty set is stood for by the pool's mean
        self.X_training = labelled if len(labelled) else pool.features.mean(axis=0, keepdims=True)
        self._features = pool.features
        self._spread = pool.uncertainty
        self._values = pool.members[:, :, 0] / pool.scale[0]  # [K, S]
        self.classes_ = np.arange(N_BINS)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def predict(self, X: FeatureArray, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Return the mean [S] and, where asked, the spread [S]."""
        self._check(X)
        mean = self._values.mean(axis=0)
        return (mean, self._spread) if return_std else mean

    def predict_proba(self, X: FeatureArray) -> FloatArray:
        """Return [S, 2] probabilities that express the spread."""
        self._check(X)
        largest = float(self._spread.max())
        doubt = 0.5 * self._spread / largest if largest > 0 else np.zeros_like(self._spread)
        return np.stack([1 - doubt, doubt], axis=1)

    def vote(self, X: FeatureArray) -> FloatArray:
        """Return the class each member votes for [S, K]."""
        self._check(X)
        edges = np.quantile(self._values.mean(axis=0), np.arange(1, N_BINS) / N_BINS)
        return np.asarray(np.searchsorted(edges, self._values.T, side="right"), dtype=np.float64)

    def vote_proba(self, X: FeatureArray) -> FloatArray:
        """Return each member's certain vote as probabilities [S, K, classes]."""
        return np.asarray(self.vote(X)[:, :, None] == self.classes_, dtype=np.float64)

    def _check(self, X: FeatureArray) -> None:
        if X is not self._features and (X.shape != self._features.shape or not np.array_equal(X, self._features)):
            raise InputError(
                f"a modAL strategy may ask about the whole pool {self._features.shape} only but got "
                f"{getattr(X, 'shape', type(X))}; choose a strategy that scores the pool at once."
            )
