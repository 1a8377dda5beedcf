"""Edges and tables from the reference list hold exactly the pairs that a search finds."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from matscipy.neighbours import neighbour_list

from activeph.graphs import Edges, NeighbourFinder, ReferenceNeighbours, direct_edges
from activeph.graphs.neighbours import TABLE
from activeph.graphs.pairs import PairTable
from activeph.records import Block, Configuration, System

CRYSTALS = {
    "KBr, 2 atoms, many images of a pair": (bulk("KBr", "rocksalt", a=6.775), 5.0),
    "KBr, 16 atoms": (bulk("KBr", "rocksalt", a=6.775) * (2, 2, 2), 5.5),
    "Si, skewed": (bulk("Si") * (3, 1, 1), 5.2),
    "Cu, one atom": (bulk("Cu"), 6.0),
}


def reference_of(name: str) -> tuple[Configuration, float]:
    atoms, cutoff = CRYSTALS[name]
    return Configuration(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell)), cutoff


def in_order(i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both directions of every pair: atoms [2H, 2] and vectors [2H, 3], by atoms, then along a crooked axis."""
    atoms = np.column_stack([np.concatenate([i, j]), np.concatenate([j, i])])
    both = np.concatenate([vectors, -vectors])
    order = np.lexsort((both @ [1.0, 2**0.5, 5**0.5], atoms[:, 1], atoms[:, 0]))
    return atoms[order], both[order]


def searched(positions: np.ndarray, cells: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    atoms, vectors = [], []
    for b, (places, cell) in enumerate(zip(positions, cells, strict=True)):
        i, j, d = neighbour_list("ijD", positions=places, cell=cell, pbc=[True] * 3, cutoff=cutoff)
        atoms.append(b * len(places) + np.column_stack([i, j]))
        vectors.append(d)
    (i, j), apart = np.concatenate(atoms).T, np.concatenate(vectors)
    half = (i < j) | ((i == j) & (apart @ [1.0, 2**0.5, 5**0.5] > 0))
    return in_order(i[half], j[half], apart[half])


def assert_same(edges: Edges | None, positions: np.ndarray, cells: np.ndarray, cutoff: float) -> None:
    assert edges is not None
    atoms, vectors = in_order(edges.i, edges.j, edges.vectors)
    true_atoms, true_vectors = searched(positions, cells, cutoff)
    np.testing.assert_array_equal(atoms, true_atoms)
    np.testing.assert_allclose(vectors, true_vectors, atol=2e-6)


def in_tables(tables: Iterable[tuple[slice, PairTable]], n_atoms: int, cutoff: float) -> Edges:
    """The pairs of tables that are closer than the cutoff, as edges."""
    parts = []
    for rows, table in tables:
        pair, structure = np.nonzero(table.squares < cutoff**2)
        first = (rows.start + structure) * n_atoms
        vectors = table.vectors[:, pair, structure].T.astype(np.float64)
        np.testing.assert_allclose(table.squares[pair, structure], np.sum(vectors**2, axis=1), rtol=1e-6)
        parts.append((first + table.pairs.i[pair], first + table.pairs.j[pair], vectors))
    return Edges(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


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
        tables = ReferenceNeighbours(reference, cutoff).tables(positions, cells)
        assert_same(in_tables(tables, len(fractional), cutoff), positions, cells, cutoff)
    else:
        assert amplitude > 0.1 or strain > 0.01
    assert_same(direct_edges(positions, cells, cutoff), positions, cells, cutoff)


@pytest.mark.parametrize("strain", [0.0, 0.02])
def test_more_structures_than_one_chunk(strain: float) -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    rng, n = np.random.default_rng(0), TABLE + 6
    deformation = np.eye(3) + strain * rng.normal(size=(n, 3, 3))
    positions = reference.positions @ deformation + 0.1 * rng.normal(size=(n, 16, 3))
    cells = reference.cell @ deformation
    neighbours = ReferenceNeighbours(reference, cutoff)
    assert_same(neighbours.edges(positions, cells), positions, cells, cutoff)
    for _ in range(2):
        assert_same(in_tables(neighbours.tables(positions, cells), 16, cutoff), positions, cells, cutoff)


def test_tables_lie_within_single_precision_of_edges() -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    rng = np.random.default_rng(0)
    positions = reference.positions + 0.1 * rng.normal(size=(8, 16, 3)) + 40 * rng.normal(size=(8, 1, 3))
    cells = np.broadcast_to(reference.cell, (8, 3, 3))
    neighbours = ReferenceNeighbours(reference, cutoff)
    edges = neighbours.edges(positions, cells)
    found = in_tables(neighbours.tables(positions, cells), 16, cutoff)
    (atoms, vectors), (same, exact) = (in_order(e.i, e.j, e.vectors) for e in (found, edges))
    np.testing.assert_array_equal(atoms, same)
    np.testing.assert_allclose(vectors, exact, atol=1e-6)


def test_what_is_found_does_not_depend_on_what_was_found_before() -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    rng = np.random.default_rng(0)
    small, large = (reference.positions + a * rng.uniform(-1, 1, size=(4, 16, 3)) for a in (0.02, 0.3))
    cells = np.broadcast_to(reference.cell, (4, 3, 3))
    fresh, used = ReferenceNeighbours(reference, cutoff), ReferenceNeighbours(reference, cutoff)
    used.edges(large, cells)
    list(used.tables(large, cells))
    np.testing.assert_array_equal(used.edges(small, cells).vectors, fresh.edges(small, cells).vectors)
    (_, one), (_, other) = next(used.tables(small, cells)), next(fresh.tables(small, cells))
    np.testing.assert_array_equal(one.vectors, other.vectors)


def test_blocks_of_unknown_crystals_and_large_displacements_have_tables_too(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    cell = system.supercell
    rng = np.random.default_rng(0)
    n_atoms = len(cell.numbers)
    scrambled = rng.uniform(size=(3, n_atoms, 3)) @ cell.cell
    cells = np.tile(cell.cell, (3, 1, 1))
    for name in (system.name, "another"):
        block = Block(name, np.tile(cell.numbers, (3, 1)), scrambled, cells, np.full(3, np.nan))
        tables = NeighbourFinder({system.name: system}, 4.0).tables(block)
        assert_same(in_tables(tables, n_atoms, 4.0), scrambled, cells, 4.0)


def test_a_later_block_with_larger_displacements_finds_all_pairs() -> None:
    reference, cutoff = reference_of("KBr, 16 atoms")
    rng = np.random.default_rng(0)
    neighbours = ReferenceNeighbours(reference, cutoff)
    for amplitude in (0.01, 0.3, 0.02):
        positions = reference.positions + amplitude * rng.uniform(-1, 1, size=(4, 16, 3))
        cells = np.broadcast_to(reference.cell, (4, 3, 3))
        assert_same(neighbours.edges(positions, cells), positions, cells, cutoff)
        assert_same(in_tables(neighbours.tables(positions, cells), 16, cutoff), positions, cells, cutoff)


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
    assert ReferenceNeighbours(reference, cutoff).tables(positions, cells) is None
