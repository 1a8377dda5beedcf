"""The adapter: what modAL is told, and that its own answers come back."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import numpy as np
import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from activeph.errors import InputError
from activeph.records import Prediction
from activeph.select.base import Known
from activeph.select.modal import STRATEGIES, ModalSelector
from activeph.select.modal_learner import EnsembleLearner
from activeph.select.uncertainty import UncertaintySelector


def prediction(size: int = 30, members: int = 4) -> Prediction:
    rng = np.random.default_rng(5)
    return Prediction(rng.normal(size=(members, size, 2)), rng.normal(size=(size, 3)), np.array([1.0, 3.0]))


def ask(strategy: str, pool: Prediction, n: int, **options: object) -> list[int]:
    selector = ModalSelector(strategy=strategy, options=options)
    return selector.select(pool, np.zeros((4, 3)), n, np.random.default_rng(0)).tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_named_strategies_exist_and_answer(name: str) -> None:
    assert callable(getattr(importlib.import_module(STRATEGIES[name]), name))
    assert len(ask(name, prediction(), 6)) == 6


@pytest.mark.parametrize("name", ["max_std_sampling", "uncertainty_sampling", "margin_sampling", "entropy_sampling"])
def test_uncertainty_strategies_take_the_largest_spread(name: str) -> None:
    pool = prediction()
    assert set(ask(name, pool, 5)) == set(np.argsort(-pool.uncertainty)[:5].tolist())


def test_uncertainty_selector_ranks_by_spread_and_settles_ties_by_index() -> None:
    members = np.zeros((2, 7, 1))
    members[0, :, 0] = [1, 3, 2, 2, 0, 2, 3]
    pool = Prediction(members, np.zeros((7, 1)), np.ones(1))
    chosen = UncertaintySelector().select(pool, np.empty((0, 1)), 4, np.random.default_rng(0))
    assert chosen.tolist() == [1, 6, 2, 3]


def test_ranked_batch_is_modals_own() -> None:
    from modAL.batch import ranked_batch

    pool, labelled = prediction(), np.random.default_rng(1).normal(size=(4, 3))
    learner = EnsembleLearner(pool, labelled)
    doubt = pool.uncertainty / pool.uncertainty.max() / 2
    expected, _ = ranked_batch(learner, pool.features, doubt, 8, "euclidean", None)
    selector = ModalSelector(strategy="uncertainty_batch_sampling", options={"metric": "euclidean"})
    assert selector.select(pool, labelled, 8, np.random.default_rng(0)).tolist() == expected.tolist()


def test_vote_entropy_is_zero_where_members_agree() -> None:
    from modAL.disagreement import vote_entropy

    pool = prediction()
    pool.members[:, :10, 0] = pool.members[:1, :10, 0]
    entropy = vote_entropy(EnsembleLearner(pool, np.empty((0, 3))), pool.features)
    assert np.allclose(entropy[:10], 0.0)
    assert entropy[10:].max() > 0.5


def test_misspelt_strategy_is_refused_with_a_hint() -> None:
    with pytest.raises(ValidationError, match="did you mean 'max_std_sampling'"):
        ModalSelector(strategy="max_std_samplng")


@pytest.mark.parametrize("path", ["no_such_module:f", "numpy:no_such_function", "numpy:pi"])
def test_import_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(InputError, match="but got"):
        ask(path, prediction(), 2)
    with pytest.raises(PydanticCustomError, match="must be a function that can be imported"):
        ModalSelector(strategy=path).check(Known((), (), ()))
    ModalSelector(strategy="numpy:argmax").check(Known((), (), ()))


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_that_compare_spreads_say_so(name: str) -> None:
    """Without a spread they take whatever comes first or last."""
    pool = prediction(members=1)
    order = np.random.default_rng(2).permutation(30)
    twice = [sorted(rows[ask(name, pool.take(rows), 5)].tolist()) for rows in (np.arange(30), order)]
    assert (twice[0] == twice[1]) != ModalSelector(strategy=name).needs_spread


def test_strategies_an_ensemble_cannot_answer_are_refused() -> None:
    with pytest.raises(InputError, match="y_max"):
        ask("modAL.acquisition:max_EI", prediction(), 2)


@pytest.mark.parametrize("answer", [[3, 3], [0, 30], [-1, 2], [1]])
def test_wrong_indices_of_a_foreign_strategy_are_refused(answer: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = types.ModuleType("foreign")
    foreign.strategy = lambda learner, features, n_instances: np.array(answer)
    monkeypatch.setitem(sys.modules, "foreign", foreign)
    with pytest.raises(InputError, match="2 distinct indices below 30"):
        ask("foreign:strategy", prediction(), 2)


def test_modal_is_imported_only_when_asked() -> None:
    code = (
        "import sys, activeph.select.modal, activeph.select.uncertainty, activeph.select.lcmd, activeph.select.random;"
        "sys.exit(any(name in sys.modules for name in ('modAL', 'sklearn', 'torch', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
