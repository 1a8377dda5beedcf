"""Experts are weighted by their errors, and the error bars of what they say together are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from activeph.models.calibration import as_if_held_out, calibration_metrics
from activeph.models.experts import Experts, expert_errors, expert_weights, judge_experts
from activeph.records import FloatArray

Records = list[dict[str, torch.Tensor]]


def test_weights_follow_the_errors() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 2))
    left_over = np.stack([0.01 * rng.normal(size=30), rng.normal(size=30)], axis=1)
    guesses = np.concatenate([truth + 0.1 * rng.normal(size=(30, 2)), np.zeros((30, 2))], axis=1)
    weights = expert_weights(expert_errors(truth, left_over, guesses))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert weights[2, 0] < 0.01  # the expansion knows the first target
    assert weights[2, 1] > 0.97  # the network knows the second
    assert np.all(weights[1] <= weights[0])  # a correction of nothing has proved nothing


def test_the_network_has_less_to_prove_where_it_has_learned_derivatives() -> None:
    errors = np.ones((3, 4, 2))
    errors[1:] = 0.5
    weights = expert_weights(errors, taught=1)
    assert weights[0, 0] > 1 / 3 > weights[0, 1]
    np.testing.assert_array_equal(weights[:, 0], expert_weights(errors)[:, 1])


def test_no_held_out_label_no_preference() -> None:
    np.testing.assert_allclose(expert_weights(np.zeros((3, 0, 4))), 1 / 3)


def world(n: int, of_network: float, seed: int, n_members: int = 5) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return errors of an expansion [n], what it expects of them [n], and errors of networks [K, n]."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(0.5 * rng.normal(size=n))
    networks = of_network * sizes * (rng.normal(size=n) + 0.5 * rng.normal(size=(n_members, n)))
    return sizes * rng.normal(size=n), sizes, networks


def records_of(expansion: FloatArray, spread: FloatArray, networks: FloatArray, seed: int) -> Records:
    """Return records of networks that say 0 of what an expansion leaves, and the truth (0) with their errors.

    Of labels that they have seen they are wrong by half; ``spread`` [n] is that of what they say elsewhere.
    """
    rng = np.random.default_rng(seed)
    n = len(expansion)
    records = []
    for errors in networks:
        held = rng.uniform(size=n) < 0.15
        arrays = {
            "targets": np.stack([np.zeros(n), expansion], axis=1),
            "values": np.stack([np.where(held, errors, 0.5 * errors), np.zeros(n)], axis=1),
            "unseen": np.stack([spread * rng.normal(size=n), np.zeros(n)], axis=1),
            "held_out": np.flatnonzero(held),
        }
        records.append({name: torch.from_numpy(array) for name, array in arrays.items()})
    return records


@pytest.mark.parametrize("of_network", [0.1, 1.0, 10.0])
def test_error_bars_of_what_experts_say_together(of_network: float) -> None:
    expansion, sizes, networks = world(400, of_network, 0)
    experts = judge_experts(records_of(expansion, 0.5 * of_network * sizes, networks, 1), sizes[:, None])
    fresh, expected, others = world(4000, of_network, 2)
    spread = np.random.default_rng(3).normal(size=(5, 4000))
    spread -= spread.mean(axis=0)
    of_expansion = -fresh + expected * spread / spread.std(axis=0, ddof=1)
    said = np.stack([others, np.zeros_like(others)], axis=2)
    members = experts.mix(of_expansion[:, :, None], said)
    quality = calibration_metrics(members.mean(axis=0)[:, 0], members.std(axis=0, ddof=1)[:, 0])
    assert quality["miscalibration_area"] < 0.05
    assert quality["spearman"] > 0.25


def test_weights_and_bars_follow_errors_of_expansions_that_never_saw_the_label() -> None:
    expansion, spread, networks = parts()
    records = records_of(expansion, spread, 10 * networks, 1)
    plain = judge_experts(records, np.ones((200, 1)))
    larger = judge_experts(records, np.ones((200, 1)), 2 * expansion[:, None])
    assert larger.weights[0] < plain.weights[0]
    assert larger.together.apply(np.ones((1, 1))) > 1.5 * plain.together.apply(np.ones((1, 1)))


def test_the_column_that_forces_taught_is_read_from_the_records() -> None:
    expansion, spread, networks = parts()
    records = records_of(expansion, spread, 0.1 * networks, 1)
    plain = judge_experts(records, np.ones((200, 1)))
    taught = judge_experts([{**record, "energy": 0} for record in records], np.ones((200, 1)))
    assert taught.weights[2] > plain.weights[2]


def test_mixing_keeps_the_weighted_mean() -> None:
    experts = judge_experts(records_of(*parts(), 1), np.ones((200, 1)))
    rng = np.random.default_rng(0)
    expansion, said = rng.normal(size=(5, 7, 1)), rng.normal(size=(5, 7, 2))
    alone, corrected, other = experts.weights[:, 0]
    wanted = (alone + corrected) * expansion[..., 0] + corrected * said[..., 1] + other * said[..., 0]
    np.testing.assert_allclose(experts.mix(expansion, said).mean(axis=0)[:, 0], wanted.mean(axis=0))


def parts() -> tuple[FloatArray, FloatArray, FloatArray]:
    expansion, sizes, networks = world(200, 1.0, 0)
    return expansion, 0.5 * sizes, networks


def test_labels_without_an_expansion_have_no_part_in_it() -> None:
    records = records_of(*parts(), 1)
    deviations = np.ones((200, 1))
    some = judge_experts(
        [
            {name: array[:100] if name != "held_out" else array[array < 100] for name, array in one.items()}
            for one in records
        ],
        deviations[:100],
    )
    deviations[100:] = np.nan
    for record in records:
        record["targets"][100:, 1] = 1e6
    all_of_them = judge_experts(records, deviations)
    np.testing.assert_allclose(all_of_them.weights, some.weights)
    np.testing.assert_allclose(all_of_them.together.factors, some.together.factors)


def test_nothing_expanded_is_no_error() -> None:
    experts = judge_experts(records_of(*parts(), 1), np.full((200, 1), np.nan))
    assert isinstance(experts, Experts)
    assert np.all(experts.network.factors > 0)


def test_errors_of_seen_labels_are_made_as_large_as_the_others() -> None:
    rng = np.random.default_rng(0)
    held = rng.uniform(size=(5, 400)) < 0.2
    errors = np.where(held, 1.0, 0.4)[:, :, None] * rng.normal(size=(5, 400, 1))
    made = as_if_held_out(errors, held)
    assert np.median(np.abs(made[~held])) == pytest.approx(np.median(np.abs(made[held])))
    assert np.array_equal(made[held], errors[held])
    assert np.array_equal(as_if_held_out(errors, np.ones_like(held)), errors)
