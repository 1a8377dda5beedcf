"""What selectors read off a prediction."""

from __future__ import annotations

import numpy as np

from activeph.records import Prediction
from activeph.tasks import join_predictions

RNG = np.random.default_rng(0)


def make(size: int, spread: bool) -> Prediction:
    own = RNG.random(size) if spread else None
    return Prediction(RNG.normal(size=(3, size, 2)), RNG.normal(size=(size, 4)), np.array([1.0, 2.0]), own)


def test_uncertainty_is_the_members_spread_unless_the_model_knows_better() -> None:
    plain, own = make(5, False), make(5, True)
    np.testing.assert_allclose(plain.uncertainty, np.sqrt(np.mean((plain.std / plain.scale) ** 2, axis=1)))
    assert own.spread is not None
    assert np.array_equal(own.uncertainty, own.spread)


def test_parts_and_wholes_keep_the_spread() -> None:
    for spread in (True, False):
        parts = [make(4, spread), make(3, spread)]
        whole = join_predictions(parts)
        for part, rows in zip(parts, (np.arange(4), np.arange(4, 7)), strict=True):
            np.testing.assert_allclose(whole.take(rows).uncertainty, part.uncertainty)
            np.testing.assert_allclose(whole.take(rows).members, part.members)
            np.testing.assert_allclose(whole.take(rows).features, part.features, rtol=1e-6)
