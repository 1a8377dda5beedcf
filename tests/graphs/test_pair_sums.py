"""Sums over pairs, counted on a grid, against plain sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activeph.graphs.pair_sums import PairSums
from activeph.graphs.pairs import search_pairs
from activeph.records import Block, FloatArray, System

CUTOFF, N = 5.0, 4


def make_block(system: System, n: int) -> Block:
    cell = system.supercell
    positions = cell.positions + 0.1 * np.random.default_rng(0).normal(size=(n, len(cell.numbers), 3))
    return Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )


def plain(block: Block, elements: FloatArray) -> FloatArray:
    result = []
    for row in range(len(block)):
        configuration = block.configuration(row)
        pairs = search_pairs(configuration, CUTOFF)
        apart = configuration.positions[pairs.j] - configuration.positions[pairs.i] + pairs.shifts @ configuration.cell
        lengths = np.linalg.norm(apart, axis=1)
        waves = np.sin(np.arange(1, N + 1) * np.pi / CUTOFF * lengths[:, None])
        values = waves * (0.5 * (np.cos(np.pi * lengths / CUTOFF) + 1) / lengths)[:, None]
        species = np.sort(configuration.numbers[np.stack([pairs.i, pairs.j])], axis=0)
        classes = [(a, b) for k, a in enumerate(elements) for b in elements[k:]]
        own = [values[(species[0] == a) & (species[1] == b)].sum(axis=0) for a, b in classes]
        result.append(np.concatenate(own) / len(configuration.numbers))
    return np.array(result)


def test_sums_are_those_over_all_pairs(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    elements = np.unique(system.supercell.numbers)
    sums = PairSums(system, elements, CUTOFF, N)
    block = make_block(system, 5)
    found, expected = sums.evaluate(block), plain(block, elements)
    assert found.shape == (5, sums.count) == (5, 3 * N)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_other_elements_are_left_out(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    elements = np.unique(system.supercell.numbers)
    block = make_block(system, 2)
    sums = PairSums(system, elements[:1], CUTOFF, N).evaluate(block)
    np.testing.assert_allclose(sums, PairSums(system, elements, CUTOFF, N).evaluate(block)[:, :N])
    strange = replace(block, species=np.full_like(block.species, 118))
    assert not PairSums(system, elements, CUTOFF, N).evaluate(strange).any()
