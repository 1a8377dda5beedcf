"""A member is judged by labels that neither it nor any earlier state of it has trained on."""

from __future__ import annotations

import numpy as np
import pytest

from activeph.models.calibration import take
from activeph.models.split import split_labels
from activeph.records import Block, Dataset


def make_dataset(n: int, seed: int = 0) -> Dataset:
    positions = np.random.default_rng(seed).normal(size=(n, 2, 3))
    block = Block("crystal", np.tile([3, 9], (n, 1)), positions, np.tile(4 * np.eye(3), (n, 1, 1)), np.full(n, 300.0))
    return Dataset((block,), ("gap",), np.zeros((n, 1)), np.zeros(n), (np.zeros_like(positions),), np.zeros((n, 6)))


@pytest.mark.parametrize("sizes", [(6, 14, 22, 30), (25, 35, 45), (3, 4, 9), (1, 2, 3, 5, 8)])
def test_judges_are_those_that_no_round_has_trained_on(sizes: tuple[int, ...]) -> None:
    """With few labels the held-out ones are those of the smallest numbers: some of them were trained on before."""
    seen_again = 0
    for seed in range(60):
        whole, trained, earlier = make_dataset(max(sizes), seed), set[int](), None
        for size in sizes:
            split = split_labels(take(whole, range(size)), seed, 0.15, earlier)
            out, judges = set(np.flatnonzero(split.held_out)), set(np.flatnonzero(split.judges))
            assert judges == out - trained
            seen_again += len(out & trained)
            assert len(split.held_out) - len(out) >= min(size, 2)
            trained |= set(range(size)) - out
            earlier = split.record(was_warm=True)
    assert seen_again > 0


def test_a_fresh_start_forgets_what_the_dropped_state_had_seen() -> None:
    dataset = make_dataset(40)
    first = split_labels(take(dataset, range(20)), 3, 0.15)
    later = split_labels(dataset, 8, 0.15, first.record(was_warm=False))
    assert later.seed == 3  # what is held out stays held out
    kept = [later.record(was_warm)["trained_on"].numpy() for was_warm in (True, False)]
    assert set(kept[1]) == set(later.draws[~later.held_out])
    assert set(kept[0]) == set(kept[1]) | set(first.draws[~first.held_out])


def test_a_state_that_does_not_say_what_it_has_seen_is_judged_by_nothing() -> None:
    dataset = make_dataset(40)
    split = split_labels(dataset, 0, 0.15, {"split_seed": 0})
    assert split.held_out.any()
    assert not split.judges.any()


def test_order_and_blocks_do_not_matter() -> None:
    dataset = make_dataset(50)
    order = np.random.default_rng(1).permutation(50)
    (block,) = dataset.blocks
    moved = Block("crystal", block.species, block.positions[order], block.cells, block.temperatures)
    shuffled = Dataset((moved,), ("gap",), dataset.targets, dataset.energies, dataset.forces, dataset.stresses)
    expected, found = split_labels(dataset, 5, 0.2), split_labels(shuffled, 5, 0.2)
    assert np.array_equal(found.held_out, expected.held_out[order])
