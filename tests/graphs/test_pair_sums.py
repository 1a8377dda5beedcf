"""Sums over pairs of a table against plain sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.graphs.pair_sums import PairSums, pair_sums_of
from activeph.graphs.pairs import search_pairs
from activeph.graphs.radial import SMALLEST, radial_functions
from activeph.records import Block, FloatArray, System

CUTOFF, N = 5.0, 4


def make_block(system: System, n: int) -> Block:
    cell = system.supercell
    positions = cell.positions + 0.1 * np.random.default_rng(0).normal(size=(n, len(cell.numbers), 3))
    return Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )


def rows_of(block: Block, rows: list[int]) -> Block:
    arrays = ("species", "positions", "cells", "temperatures")
    return replace(block, **{name: getattr(block, name)[rows] for name in arrays})


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
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_other_elements_are_left_out(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    elements = np.unique(system.supercell.numbers)
    block = make_block(system, 2)
    sums = PairSums(system, elements[:1], CUTOFF, N).evaluate(block)
    np.testing.assert_allclose(sums, PairSums(system, elements, CUTOFF, N).evaluate(block)[:, :N], rtol=1e-5)
    strange = replace(block, species=np.full_like(block.species, 118))
    assert not PairSums(system, elements, CUTOFF, N).evaluate(strange).any()


def test_any_order_of_atoms_and_any_displacement(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    elements = np.unique(system.supercell.numbers)
    block = make_block(system, 70)
    rng = np.random.default_rng(1)
    order = rng.permutation(block.species.shape[1])
    species, positions = block.species.copy(), block.positions.copy()
    species[3], positions[3] = species[3, order], positions[3, order]
    positions[5] += rng.normal(scale=0.8, size=positions[5].shape)
    mixed = replace(block, species=species, positions=positions)
    sums = PairSums(system, elements, CUTOFF, N)
    rows = [0, 3, 5, 69]
    expected = plain(rows_of(mixed, rows), elements)
    tolerance = 2e-6 * np.abs(expected).max()
    np.testing.assert_allclose(sums.evaluate(mixed)[rows], expected, atol=tolerance)
    np.testing.assert_allclose(sums.evaluate(mixed)[3], sums.evaluate(block)[3], atol=tolerance)


@pytest.mark.parametrize("n", [1, 8, 20])
def test_radial_functions_are_those_of_the_equation(n: int) -> None:
    cutoff = 6.0
    lengths = np.array([[1e-5, 0.8, 1.95, 3.0], [4.4, 5.9, 5.99999, 6.0], [6.0001, 7.0, 9.0, 20.0]])
    for precision, tolerance in ((np.float32, 5e-6), (np.float64, 1e-9)):
        for k, values in enumerate(radial_functions((lengths**2).astype(precision), cutoff, n), start=1):
            d = np.maximum(lengths, SMALLEST)
            expected = np.sin(k * np.pi * d / cutoff) / d * 0.5 * (np.cos(np.pi * d / cutoff) + 1)
            assert values.dtype == precision
            np.testing.assert_allclose(values[:2], expected[:2], atol=tolerance * k)
            assert not values[lengths > cutoff].any()


def test_what_was_found_for_a_system_serves_again(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    elements = tuple(np.unique(system.supercell.numbers).tolist())
    assert pair_sums_of(system, elements, CUTOFF, N) is pair_sums_of(system, elements, CUTOFF, N)
