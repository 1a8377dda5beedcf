"""Quotas are exact, time counts as it should, and what is not valid is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.errors import InputError
from activeph.kinds import load_kind
from activeph.records import Facts, Prediction
from activeph.select.wrapping import apportion

KELVINS = (150.0, 300.0, 450.0, 600.0)


def make_facts(sizes: dict[tuple[int, float], int], seconds: tuple[float, ...] = (1.0, 1.0)) -> Facts:
    """Return facts of a shuffled pool with so many candidates of each system and temperature."""
    pairs = [pair for pair, size in sizes.items() for _ in range(size)]
    order = np.random.default_rng(0).permutation(len(pairs))
    systems = np.array([pairs[i][0] for i in order], dtype=np.int16)
    temperatures = np.array([pairs[i][1] for i in order], dtype=np.float32)
    return Facts(("KBr", "Ag3SBr")[: len(seconds)], systems, temperatures, np.array(seconds), ("gap",))


def make_pool(facts: Facts, spreads: tuple[float, ...] = (1.0, 1.0)) -> Prediction:
    rng = np.random.default_rng(1)
    members = rng.choice([-1.0, 1.0]) * np.array([[-1.0], [1.0]]) * np.array(spreads)[facts.systems]
    return Prediction(members[:, :, None], rng.normal(size=(len(facts), 5)), np.ones(1), facts=facts)


def counts(facts: Facts, chosen: np.ndarray) -> dict[tuple[int, float], int]:
    pairs, numbers = np.unique(
        np.stack([facts.systems[chosen], facts.temperatures[chosen]]), axis=1, return_counts=True
    )
    return {(int(s), float(t)): int(n) for (s, t), n in zip(pairs.T, numbers, strict=True)}


def quota(**settings: object) -> object:
    return load_kind("selectors", "quota").model_validate(settings)


@pytest.mark.parametrize("using", ["random", "lcmd", "maxdet", "uncertainty"])
@pytest.mark.parametrize("seed", range(3))
def test_every_group_gets_its_share_exactly(using: str, seed: int) -> None:
    facts = make_facts({(s, t): 30 + 5 * s for s in (0, 1) for t in KELVINS})
    selector = quota(using=using, systems={"KBr": 3, "Ag3SBr": 1}, temperatures={"150": 2})
    pool = facts if using == "random" else make_pool(facts)
    chosen = selector.select(pool, np.empty((0, 5)), 20, np.random.default_rng(seed))
    expected = {(s, t): (3 if s == 0 else 1) * (2 if t == 150 else 1) for s in (0, 1) for t in KELVINS}
    assert counts(facts, chosen) == expected


def test_remainders_go_to_groups_drawn_anew_each_round() -> None:
    facts = make_facts(dict.fromkeys([(0, t) for t in KELVINS], 30), (1.0,))
    seen = np.zeros(4)
    for seed in range(40):
        chosen = quota(using="random").select(facts, np.empty((0, 0)), 6, np.random.default_rng(seed))
        numbers = np.array([counts(facts, chosen)[0, t] for t in KELVINS])
        assert sorted(numbers) == [1, 1, 2, 2]
        seen += numbers
    assert seen.min() >= 50  # of 60 each


def test_what_a_group_lacks_is_filled_from_the_others_in_their_shares() -> None:
    facts = make_facts({(0, 150.0): 2, (0, 300.0): 50, (0, 600.0): 50}, (1.0,))
    selector = quota(using="random", temperatures={"300": 1, "150": 4, "600": 3})
    chosen = selector.select(facts, np.empty((0, 0)), 22, np.random.default_rng(0))
    assert counts(facts, chosen) == {(0, 150.0): 2, (0, 300.0): 5, (0, 600.0): 15}


def test_share_of_nothing_is_taken_only_at_need() -> None:
    facts = make_facts({(0, 150.0): 10, (0, 300.0): 10}, (1.0,))
    selector = quota(using="random", temperatures={"300": 0})
    for n, hot in ((10, 0), (13, 3)):
        chosen = selector.select(facts, np.empty((0, 0)), n, np.random.default_rng(0))
        assert np.sum(facts.temperatures[chosen] == 300) == hot


def test_unknown_temperatures_are_a_group() -> None:
    facts = make_facts({(0, np.nan): 30, (0, 300.0): 30}, (1.0,))
    chosen = quota(using="random").select(facts, np.empty((0, 0)), 10, np.random.default_rng(0))
    assert np.isnan(facts.temperatures[chosen]).sum() == 5


def test_batch_is_diverse_across_groups() -> None:
    """The same crystal shape at two temperatures: what is taken at one is not taken again at the other."""
    facts = make_facts({(0, 150.0): 20, (0, 300.0): 20}, (1.0,))
    features = np.zeros((40, 1))
    for kelvin in (150, 300):
        features[facts.temperatures == kelvin, 0] = np.arange(20)
    pool = Prediction(np.zeros((1, 40, 1)), features, np.ones(1), facts=facts)
    chosen = quota(using="maxdist").select(pool, np.empty((0, 1)), 8, np.random.default_rng(0))
    assert len(set(features[chosen, 0])) == 8


@settings(deadline=None)
@given(data=st.data())
def test_apportioned_numbers_are_exact_and_within_one_of_the_ideal(data: st.DataObject) -> None:
    sizes = np.array(data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)))
    shares = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(sizes), max_size=len(sizes))), dtype=float)
    n = data.draw(st.integers(1, int(sizes.sum())))
    found = apportion(n, shares, sizes, np.arange(len(sizes)))
    assert found.sum() == n
    assert np.all((found >= 0) & (found <= sizes))
    if shares.sum() > 0 and np.all(n * shares / shares.sum() <= sizes):
        assert np.all(np.abs(found - n * shares / shares.sum()) < 1)
    if sizes[shares > 0].sum() >= n:
        assert found[shares == 0].sum() == 0


def test_pool_without_facts_is_refused() -> None:
    with pytest.raises(InputError, match="quota needs the facts of the pool but got its size"):
        quota(using="random").select(20, np.empty((0, 0)), 3, np.random.default_rng(0))
    bare = Prediction(np.zeros((2, 4, 1)), np.zeros((4, 2)), np.ones(1))
    with pytest.raises(InputError, match="quota needs the facts of the pool but got its predictions"):
        quota().select(bare, np.empty((0, 2)), 3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("seconds", "spreads", "cheap"), [((1, 16), (1, 1), 16), ((1, 16), (1, 4), 10), ((9, 9), (1, 3), 5)]
)
def test_labels_go_where_uncertainty_over_root_of_time_is(
    seconds: tuple[float, float], spreads: tuple[float, float], cheap: int
) -> None:
    facts = make_facts({(0, 300.0): 100, (1, 300.0): 100}, seconds)
    pool = make_pool(facts, spreads)
    selector = load_kind("selectors", "cost-aware")()
    chosen = selector.select(pool, np.empty((0, 5)), 20, np.random.default_rng(0))
    assert np.sum(facts.systems[chosen] == 0) == cheap


def test_times_may_be_given_and_unknown_ones_favour_nobody() -> None:
    facts = make_facts({(0, 300.0): 50, (1, 300.0): 50}, (np.nan, 3.0))
    for settings_, cheap in (({}, 10), ({"seconds": {"KBr": 1, "Ag3SBr": 9}}, 15)):
        selector = load_kind("selectors", "cost-aware").model_validate({"using": "random", **settings_})
        chosen = selector.select(facts, np.empty((0, 0)), 20, np.random.default_rng(0))
        assert np.sum(facts.systems[chosen] == 0) == cheap


@pytest.mark.parametrize(
    ("kind", "settings_"),
    [("quota", {"by": ["system"], "systems": {"KBr": 3}}), ("cost-aware", {"seconds": {"KBr": 1, "Ag3SBr": 9}})],
)
def test_what_is_said_of_a_crystal_holds_for_its_defects(kind: str, settings_: dict[str, object]) -> None:
    facts = make_facts({(0, 300.0): 50, (1, 300.0): 50})
    facts = replace(facts, names=("KBr-vacancy-K1", "Ag3SBr"), hosts=("KBr", ""))
    selector = load_kind("selectors", kind).model_validate({"using": "random", **settings_})
    chosen = selector.select(facts, np.empty((0, 0)), 20, np.random.default_rng(0))
    assert np.sum(facts.systems[chosen] == 0) == 15


def make_ladder() -> Prediction:
    """Return candidates whose spread, distance and prediction grow with their number."""
    steps = np.arange(30.0)
    facts = make_facts({(0, 300.0): 30}, (1.0,))
    members = np.stack([steps - steps / np.sqrt(2) / 10, steps + steps / np.sqrt(2) / 10])[:, :, None]
    return Prediction(members, steps[:, None], np.ones(1), facts=facts)


@pytest.mark.parametrize(
    ("limits", "last"),
    [
        ({"largest_uncertainty": 1.25}, 12),
        ({"largest_distance": 3}, 8),
        ({"within": {"gap": [0, 15.5]}}, 15),
        ({"largest_uncertainty": 1.25, "largest_distance": 3}, 8),
    ],
)
def test_only_valid_candidates_are_chosen(limits: dict[str, object], last: int) -> None:
    labelled = np.array([[0.0], [2.0]])
    selector = load_kind("selectors", "filtered").model_validate({"using": "maxdist", **limits})
    few = selector.select(make_ladder(), labelled, 4, np.random.default_rng(0))
    assert max(few) == last
    more = selector.select(make_ladder(), labelled, last + 4, np.random.default_rng(0))
    assert sorted(more) == list(range(last + 4))  # those that miss the limits least


def test_filter_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="must have at least one of"):
        load_kind("selectors", "filtered")()
