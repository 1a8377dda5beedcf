"""What every selector promises, whatever its method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activeph import proposal
from activeph.errors import InputError
from activeph.kinds import BUILT_IN, load_kind
from activeph.records import Facts, Prediction
from activeph.select.modal import STRATEGIES
from activeph.state import Step

FILTER = {"largest_uncertainty": 2.0, "largest_distance": 4.0, "within": {"gap": [-0.7, 0.7]}}
SETTINGS = {"filtered": FILTER}
SELECTORS = (
    {kind: load_kind("selectors", kind)(**SETTINGS.get(kind, {})) for kind in BUILT_IN["selectors"]}
    | {
        f"modal-{name}": load_kind("selectors", "modal")(strategy=name)
        for name in STRATEGIES
        if name != "uncertainty_batch_sampling"  # the kind's own
    }
    | {
        f"{wrapper}-{inner}": load_kind("selectors", wrapper)(using=inner, **SETTINGS.get(wrapper, {}))
        for wrapper in ("quota", "cost-aware", "filtered")
        for inner in ("random", "uncertainty", "modal")
    }
    | {
        "quota-of-quotas": load_kind("selectors", "quota")(by=["system"], using={"kind": "quota", "using": "maxdist"}),
        "cost-aware-filtered": load_kind("selectors", "cost-aware")(using={"kind": "filtered", **FILTER}),
    }
)
SCORED = [name for name, selector in SELECTORS.items() if selector.needs_model]
DISTANT = ["lcmd", "maxdist", "kmeans++"]
DRAWING = ["random", "kmeans++", "typiclust", *(f"{wrapper}-random" for wrapper in ("quota", "cost-aware", "filtered"))]
"""They draw numbers for places in the pool: what they take depends on its order."""
TIES = [name for name in SELECTORS if "modal" in name]
"""They leave ties to modAL, which breaks them by place."""
VOTING = ["modal-vote_entropy_sampling", "modal-consensus_entropy_sampling", "modal-max_disagreement_sampling"]
"""Members vote for one of ten classes, so that nearly all candidates tie."""


def make_prediction(size: int, seed: int = 0, members: int = 4, width: int = 6) -> Prediction:
    rng = np.random.default_rng(seed)
    values, features = rng.normal(size=(members, size, 2)), rng.normal(size=(size, width))
    return Prediction(values, features, np.array([0.5, 2.0]), facts=make_facts(size, rng))


def make_facts(size: int, rng: np.random.Generator) -> Facts:
    systems = rng.integers(2, size=size).astype(np.int16)
    temperatures = rng.choice([300.0, 600.0, np.nan], size=size).astype(np.float32)
    return Facts(("KBr", "Ag3SBr"), systems, temperatures, np.array([2.0, 40.0]), ("gap", "energy"))


def ask(name: str, prediction: Prediction, n: int, labelled: np.ndarray | None = None, seed: int = 1) -> np.ndarray:
    selector = SELECTORS[name]
    if labelled is None:
        labelled = np.random.default_rng(7).normal(size=(5, prediction.features.shape[1]))
    facts = prediction.facts if getattr(selector, "needs_facts", False) else None
    pool = prediction if selector.needs_model else facts or len(prediction)
    return selector.select(pool, labelled, n, np.random.default_rng(seed))


@pytest.mark.parametrize("name", SELECTORS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), size=st.integers(1, 60), seed=st.integers(0, 99), n_labelled=st.integers(0, 8))
def test_batch_is_distinct_and_in_range(name: str, data: st.DataObject, size: int, seed: int, n_labelled: int) -> None:
    n = data.draw(st.integers(1, size))
    labelled = np.random.default_rng(seed).normal(size=(n_labelled, 6))
    chosen = ask(name, make_prediction(size, seed), n, labelled)
    assert chosen.shape == (n,)
    assert chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == n
    assert chosen.min() >= 0
    assert chosen.max() < size


@pytest.mark.parametrize("name", SELECTORS)
def test_same_arguments_same_answer(name: str) -> None:
    prediction = make_prediction(80)
    assert np.array_equal(ask(name, prediction, 20), ask(name, prediction, 20))


@pytest.mark.parametrize("name", SELECTORS)
def test_arguments_and_global_random_state_stay_as_they_were(name: str) -> None:
    prediction = make_prediction(40)
    labelled = np.random.default_rng(2).normal(size=(5, 6))
    before = [array.copy() for array in (prediction.members, prediction.features, prediction.scale, labelled)]
    state = np.random.get_state()[1].copy()
    ask(name, prediction, 9, labelled)
    after = (prediction.members, prediction.features, prediction.scale, labelled)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert np.array_equal(state, np.random.get_state()[1])


@pytest.mark.parametrize("name", SELECTORS)
def test_whole_pool_may_be_taken(name: str) -> None:
    assert sorted(ask(name, make_prediction(12), 12).tolist()) == list(range(12))


@pytest.mark.parametrize("n", [0, -1, 13])
@pytest.mark.parametrize("name", SELECTORS)
def test_impossible_counts_are_refused(name: str, n: int) -> None:
    with pytest.raises(InputError, match=f"but got {n}"):
        ask(name, make_prediction(12), n)


@pytest.mark.parametrize("name", SELECTORS)
def test_constant_feature_changes_nothing(name: str) -> None:
    prediction = make_prediction(50)
    labelled = np.random.default_rng(3).normal(size=(5, 6))
    wider = replace(prediction, features=np.hstack([prediction.features, np.full((50, 1), 3e4)]))
    plain = ask(name, prediction, 10, labelled)
    assert np.array_equal(plain, ask(name, wider, 10, np.hstack([labelled, np.full((5, 1), 3e4)])))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", SCORED)
def test_non_finite_numbers_are_refused(name: str, bad: float) -> None:
    prediction = make_prediction(20)
    prediction.features[3, 1] = bad
    with pytest.raises(InputError, match="must be finite"):
        ask(name, prediction, 4)
    prediction = make_prediction(20)
    with pytest.raises(InputError, match="labelled set must be finite"):
        ask(name, prediction, 4, np.full((2, 6), bad))
    prediction.members[1, 2, 0] = bad
    with pytest.raises(InputError, match="predictions of the pool must be finite"):
        ask(name, prediction, 4)
    prediction = replace(make_prediction(20), spread=np.where(np.arange(20) == 7, bad, 1.0))
    with pytest.raises(InputError, match="predictions of the pool must be finite"):
        ask(name, prediction, 4)


@pytest.mark.parametrize("name", SCORED)
def test_pool_without_scores_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="needs predictions"):
        SELECTORS[name].select(20, np.empty((0, 6)), 4, np.random.default_rng(0))


@pytest.mark.parametrize("name", SCORED)
def test_features_of_other_width_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"shape \[S, 6\] but got shape \(3, 5\)"):
        ask(name, make_prediction(20), 4, np.zeros((3, 5)))


@pytest.mark.parametrize("labelled", [np.empty((0, 6)), np.empty((0, 0)), np.empty(0)])
@pytest.mark.parametrize("name", SELECTORS)
def test_nothing_labelled_yet(name: str, labelled: np.ndarray) -> None:
    assert len(set(ask(name, make_prediction(30), 7, labelled).tolist())) == 7


@pytest.mark.parametrize("name", SELECTORS)
def test_single_member_and_single_candidate(name: str) -> None:
    assert len(ask(name, make_prediction(10, members=1), 3)) == 3
    assert ask(name, make_prediction(1), 1).tolist() == [0]


@pytest.mark.parametrize("name", SELECTORS)
def test_identical_candidates_are_still_distinct_indices(name: str) -> None:
    facts = make_facts(9, np.random.default_rng(0))
    prediction = Prediction(np.zeros((3, 9, 2)), np.zeros((9, 6)), np.ones(2), facts=facts)
    assert sorted(ask(name, prediction, 9, np.zeros((2, 6))).tolist()) == list(range(9))


@pytest.mark.parametrize("name", SELECTORS)
def test_what_is_labelled_is_never_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selector sees what is free alone, and its answer is read as places among that."""
    selector, scores = SELECTORS[name], make_prediction(30)
    ids = [f"draw-{number}" for number in range(30)]
    pool = SimpleNamespace(size=30, ids=lambda indices: [ids[index] for index in indices])
    pools = proposal.Pools(selector, ("KBr",), (30,), (0,), (pool,))
    monkeypatch.setattr(proposal, "campaign_pools", lambda *_: pools)
    labelled = range(0, 30, 3)
    taken = frozenset(("KBr", ids[number]) for number in labelled) | {("Ag3SBr", "draw-1")}
    request = proposal.Request(Step("arm", 0, 1), 20, taken, (Path("member-0.pt"),), ())
    campaign = SimpleNamespace(arms={"arm": SimpleNamespace(select=selector)}, seed=0)
    known = scores.take(np.array(labelled))
    facts = scores.facts if getattr(selector, "needs_facts", False) else None
    given = (scores, known) if selector.needs_model else None
    chosen, uncertainties = proposal._select_one(campaign, {}, request, given, facts)
    assert sorted(chosen) == sorted(set(range(30)) - set(labelled))  # all that there are
    if selector.needs_model:
        np.testing.assert_allclose(uncertainties, scores.uncertainty[chosen])


@pytest.mark.parametrize("name", DISTANT)
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_what_is_labelled_come_last(name: str, seed: int) -> None:
    prediction = make_prediction(30, seed)
    labelled = prediction.features[20:]
    assert max(ask(name, prediction, 20, labelled).tolist()) < 20


@pytest.mark.parametrize("name", [name for name in SELECTORS if name not in DRAWING and name not in TIES])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), n=st.integers(1, 8), n_labelled=st.integers(1, 8))
def test_order_of_the_pool_is_irrelevant(name: str, seed: int, n: int, n_labelled: int) -> None:
    """Every candidate is there twice; whatever the order, the same kinds of candidate are taken."""
    base = make_prediction(40, seed)
    labelled = np.random.default_rng(seed + 1).normal(size=(n_labelled, 6))
    twice = np.tile(np.arange(40), 2)
    shuffled = np.random.default_rng(seed).permutation(twice)
    taken = [sorted(rows[ask(name, base.take(rows), n, labelled)].tolist()) for rows in (twice, shuffled)]
    assert taken[0] == taken[1]
    assert name not in DISTANT or len(set(taken[0])) == n


@pytest.mark.parametrize("name", [name for name in TIES if name not in VOTING])
@pytest.mark.parametrize("seed", range(4))
def test_order_of_unequal_candidates_is_irrelevant_to_modal(name: str, seed: int) -> None:
    base = make_prediction(40, seed)
    labelled = np.random.default_rng(seed + 1).normal(size=(4, 6))
    shuffled = np.random.default_rng(seed).permutation(40)
    assert set(shuffled[ask(name, base.take(shuffled), 7, labelled)]) == set(ask(name, base, 7, labelled))


@pytest.mark.parametrize("name", SELECTORS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), n=st.integers(1, 30), value=st.floats(-1e6, 1e6))
def test_constant_feature_is_harmless_whatever_its_value(name: str, seed: int, n: int, value: float) -> None:
    prediction = make_prediction(40, seed)
    wider = replace(prediction, features=np.hstack([prediction.features, np.full((40, 1), value)]))
    chosen = ask(name, wider, n, np.hstack([prediction.features[:5] + 0.1, np.full((5, 1), value)]))
    assert np.array_equal(chosen, ask(name, prediction, n, prediction.features[:5] + 0.1))


@pytest.mark.parametrize("name", SELECTORS)
def test_survives_the_campaign_file(name: str) -> None:
    selector = SELECTORS[name]
    again = type(selector).model_validate(selector.model_dump(mode="json"))
    assert again == selector
    assert again.content_hash() == selector.content_hash()
