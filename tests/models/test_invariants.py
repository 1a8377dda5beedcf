"""Invariants are invariant, complete to second order, and harmonic energies are linear in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from activeph.models import invariants
from activeph.models.invariants import ModeInvariants, invariants_of
from activeph.phonons.modes import normal_modes
from activeph.records import Block, System


def block_of(system: System, moved: np.ndarray) -> Block:
    n = len(moved)
    cell = system.supercell
    return Block(
        system.name, np.tile(cell.numbers, (n, 1)), cell.positions + moved, np.tile(cell.cell, (n, 1, 1)), np.zeros(n)
    )


def moves(system: System, n: int, seed: int = 0) -> np.ndarray:
    moved = 0.1 * np.random.default_rng(seed).normal(size=(n, len(system.masses), 3))
    return moved - np.einsum("n,bnx->bx", system.masses / system.masses.sum(), moved)[:, None]


@pytest.mark.parametrize("name", ["rocksalt", "perovskite"])
def test_no_operation_of_the_crystal_changes_them(name: str, crystal: Callable[..., System]) -> None:
    import spglib

    system = crystal(name)
    cell = system.supercell
    fractional = cell.positions @ np.linalg.inv(cell.cell)
    symmetry = spglib.get_symmetry((cell.cell, fractional, cell.numbers))
    moved = moves(system, 1)[0]
    images = []
    for rotation, shift in list(zip(symmetry["rotations"], symmetry["translations"], strict=True))[::37]:
        turn = cell.cell.T @ rotation @ np.linalg.inv(cell.cell.T)
        apart = (fractional @ rotation.T + shift)[:, None] - fractional[None]
        places = np.argmin(np.sum((apart - np.round(apart)) ** 2, axis=2), axis=1)
        image = np.empty_like(moved)
        image[places] = moved @ turn.T
        images.append(image)
    values = ModeInvariants(system).evaluate(block_of(system, np.array(images)))
    np.testing.assert_allclose(values, np.tile(values[0], (len(values), 1)), atol=1e-8)
    assert len(values) > 3


@pytest.mark.parametrize("name", ["rocksalt", "perovskite", "triclinic"])
def test_harmonic_energy_is_a_sum_of_invariants(name: str, crystal: Callable[..., System]) -> None:
    system = crystal(name)
    moved = moves(system, 400)
    modes = normal_modes(system)
    coordinates = modes.coordinates(moved, system.masses)
    energy = 0.5 * coordinates**2 @ (np.sign(modes.frequencies) * modes.frequencies**2)
    values = ModeInvariants(system).evaluate(block_of(system, moved))
    columns = np.column_stack([values, np.ones(len(values))])
    fitted = columns @ np.linalg.lstsq(columns, energy, rcond=None)[0]
    tolerance = 0.005 * 2 * np.abs(modes.frequencies).max() * np.sum(coordinates**2, axis=1).max()
    np.testing.assert_allclose(fitted, energy, atol=tolerance)  # frequencies of a set differ by up to the tolerance


def test_cubic_crystal_has_no_first_order_and_a_polar_one_has(crystal: Callable[..., System]) -> None:
    """The internal parameter u of wurtzite keeps the space group, so a property may be linear in it."""
    system = crystal("wurtzite")
    up = np.zeros((2, len(system.masses), 3))
    up[0, system.supercell.numbers == 8, 2], up[1, system.supercell.numbers == 8, 2] = 0.05, -0.05
    values = ModeInvariants(system).evaluate(block_of(system, up))
    assert np.abs(values[0] - values[1]).max() > 0.1  # odd in u
    system = crystal("rocksalt")
    up = np.zeros((2, len(system.masses), 3))
    up[0, system.supercell.numbers == 17, 2], up[1, system.supercell.numbers == 17, 2] = 0.05, -0.05
    values = ModeInvariants(system).evaluate(block_of(system, up))
    np.testing.assert_allclose(values[0], values[1], atol=1e-9)


def test_large_cells_keep_the_powers_of_all_sets(
    crystal: Callable[..., System], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = crystal("rocksalt")
    block = block_of(system, moves(system, 5))
    every = ModeInvariants(system).evaluate(block)
    monkeypatch.setattr(invariants, "MAX_NUMBERS", 0)
    fewer = ModeInvariants(system).evaluate(block)
    assert fewer.shape[1] <= every.shape[1]
    assert all(np.any(np.all(np.isclose(every, column[:, None]), axis=0)) for column in fewer.T)


def test_equal_systems_share_their_invariants(crystal: Callable[..., System]) -> None:
    system = crystal("rocksalt")
    again = replace(system, name="other")
    assert invariants_of(system) is invariants_of(again)
    assert invariants_of(replace(system, force_constants=2 * system.force_constants)) is not invariants_of(system)
