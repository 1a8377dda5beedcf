"""The reference list gives exactly the edges that a search gives."""

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from matscipy.neighbours import neighbour_list

from activeph.graphs import Edges, ReferenceNeighbours, direct_edges
from activeph.records import Configuration

CRYSTALS = {
    "KBr, 2 atoms, many images of a pair": (bulk("KBr", "rocksalt", a=6.775), 5.0),
    "KBr, 16 atoms": (bulk("KBr", "rocksalt", a=6.775) * (2, 2, 2), 5.5),
    "Si, skewed": (bulk("Si") * (3, 1, 1), 5.2),
    "Cu, one atom": (bulk("Cu"), 6.0),
}


def reference_of(name: str) -> tuple[Configuration, float]:
    atoms, cutoff = CRYSTALS[name]
    return Configuration(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell)), cutoff


def as_set(i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> list[tuple[float, ...]]:
    """Both directions of every pair, sorted: atoms and vector."""
    both = np.concatenate([np.column_stack([i, j, vectors]), np.column_stack([j, i, -vectors])])
    return sorted(map(tuple, np.round(both, 6) + 0.0))


def searched(positions: np.ndarray, cells: np.ndarray, cutoff: float) -> list[tuple[float, ...]]:
    rows = []
    for b, (places, cell) in enumerate(zip(positions, cells, strict=True)):
        i, j, d = neighbour_list("ijD", positions=places, cell=cell, pbc=[True] * 3, cutoff=cutoff)
        rows += [(b * len(places) + p, b * len(places) + q, *v) for p, q, v in zip(i, j, d, strict=True)]
    return sorted(map(tuple, np.round(np.array(rows), 6) + 0.0))


def assert_same(edges: Edges | None, positions: np.ndarray, cells: np.ndarray, cutoff: float) -> None:
    assert edges is not None
    found = np.array(as_set(edges.i, edges.j, edges.vectors))
    expected = np.array(searched(positions, cells, cutoff))
    assert found.shape == expected.shape
    np.testing.assert_allclose(
        found[np.lexsort(np.round(found.T, 4))], expected[np.lexsort(np.round(expected.T, 4))], atol=1e-5
    )


@pytest.mark.parametrize("name", CRYSTALS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), amplitude=st.floats(0.0, 0.25), strain=st.floats(0.0, 0.04))
def test_edges_equal_a_search(name: str, seed: int, amplitude: float, strain: float) -> None:
    reference, cutoff = reference_of(name)
    rng = np.random.default_rng(seed)
    cells = reference.cell @ (np.eye(3) + strain * rng.normal(size=(3, 3, 3)))
    fractional = reference.positions @ np.linalg.inv(reference.cell)
    positions = fractional @ cells + amplitude * rng.uniform(-1, 1, size=(3, len(fractional), 3))
    positions += rng.normal(size=(3, 1, 3))
    positions += rng.integers(-2, 3, size=positions.shape) @ cells  # atoms written in other periodic images
    edges = ReferenceNeighbours(reference, cutoff).edges(positions, cells)
    if edges is not None:
        assert_same(edges, positions, cells, cutoff)
    else:
        assert amplitude > 0.1 or strain > 0.01
    assert_same(direct_edges(positions, cells, cutoff), positions, cells, cutoff)


def test_more_structures_than_one_chunk() -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    positions = reference.positions + 0.1 * np.random.default_rng(0).normal(size=(70, 16, 3))
    cells = np.broadcast_to(reference.cell, (70, 3, 3))
    assert_same(ReferenceNeighbours(reference, cutoff).edges(positions, cells), positions, cells, cutoff)


def test_a_later_block_with_larger_displacements_finds_all_pairs() -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    rng = np.random.default_rng(0)
    neighbours = ReferenceNeighbours(reference, cutoff)
    for amplitude in (0.01, 0.3, 0.02):
        positions = reference.positions + amplitude * rng.uniform(-1, 1, size=(4, 16, 3))
        cells = np.broadcast_to(reference.cell, (4, 3, 3))
        assert_same(neighbours.edges(positions, cells), positions, cells, cutoff)


@pytest.mark.parametrize("change", ["permuted", "other cell", "scrambled", "fewer atoms"])
def test_no_small_displacement_is_left_to_the_search(change: str) -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    rng = np.random.default_rng(0)
    positions, cells = reference.positions[None].copy(), reference.cell[None].copy()
    if change == "permuted":
        positions = positions[:, rng.permutation(16)]
    elif change == "other cell":
        cells, positions = 3 * cells, 3 * positions
        cells[:, 0] *= 0.1
    elif change == "scrambled":
        positions = rng.uniform(size=(1, 16, 3)) @ cells
    else:
        positions = positions[:, :8]
    assert ReferenceNeighbours(reference, cutoff).edges(positions, cells) is None
