from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from pydantic import ValidationError

from activeph.errors import InputError
from activeph.phonons.modes import degenerate_sets, normal_modes
from activeph.phonons.thermal import variances
from activeph.records import System
from activeph.sample.mixture import MixtureSampler
from activeph.sample.mode_scan import ModeScanSampler

Builder = Callable[..., System]


def test_shares_are_those_of_the_weights_everywhere(crystal: Builder) -> None:
    parts = [{"sample": "phonon", "weight": 3.0}, {"sample": {"kind": "random", "distribution": "uniform"}}]
    pool = MixtureSampler(parts=parts, temperatures=(150.0, 450.0)).pool(crystal("perovskite"), 4000, 1)
    temperatures = pool.block(0, 4000).temperatures
    for start in range(0, 4000, 400):
        assert np.isnan(temperatures[start : start + 400]).sum() == pytest.approx(100, abs=3)
    known = temperatures[~np.isnan(temperatures)]
    assert (known == 150.0).sum() == pytest.approx(1500, abs=2)
    kinds = {name.split("-")[1] for name in pool.ids(range(50))}
    assert kinds == {"phonon", "random"}


def test_parts_with_the_same_sampler_differ(crystal: Builder) -> None:
    parts = [{"sample": {"kind": "phonon", "temperatures": [300.0]}}] * 2
    pool = MixtureSampler(parts=parts).pool(crystal("chain"), 100, 1)
    positions = pool.block(0, 100).positions.reshape(100, -1)
    assert len(np.unique(positions.round(9), axis=0)) == 100
    assert len(set(pool.ids(range(100)))) == 100


def test_a_file_too_short_for_its_share_gets_a_sentence(crystal: Builder, tmp_path: Path) -> None:
    cell = crystal("chain").supercell
    frames = [ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True) for _ in range(5)]
    for number, frame in enumerate(frames):
        frame.positions[0, 0] += 0.05 * number  # equal ones would be one candidate
    ase.io.write(tmp_path / "a.extxyz", frames)
    parts = [{"sample": {"kind": "replay", "file": tmp_path / "a.extxyz"}}, {"sample": "phonon"}]
    pool = MixtureSampler(parts=parts, temperatures=(300.0,)).pool(crystal("chain"), 10, 1)
    np.testing.assert_array_equal(np.isnan(pool.block(0, 10).temperatures).sum(), 5)
    with pytest.raises(InputError, match=r"must find \d+ structures for its part 1 \(replay\) but got 5"):
        MixtureSampler(parts=parts, temperatures=(300.0,)).pool(crystal("chain"), 100, 1)


@pytest.mark.parametrize(
    "parts",
    [[], [{"sample": "phonons"}], [{"sample": 3}], [{"weight": 1.0}], [{"sample": "phonon", "weight": 0.0}],
     [{"sample": {"kind": "phonon", "temperature": 3}}]],
)  # fmt: skip
def test_wrong_parts_are_refused(parts: list[object]) -> None:
    with pytest.raises(ValidationError):
        MixtureSampler(parts=parts)


def test_content_hash_sees_the_parts() -> None:
    hashes = {
        MixtureSampler(parts=[{"sample": {"kind": "phonon", "amplitude": a}, "weight": w}]).content_hash()
        for a in (1.0, 2.0)
        for w in (1.0, 2.0)
    }
    assert len(hashes) == 4


@pytest.mark.parametrize("name", ["perovskite", "wurtzite"])
def test_a_scan_moves_one_or_two_sets_within_reach(crystal: Builder, name: str) -> None:
    system = crystal(name)
    sampler = ModeScanSampler(temperatures=(100.0, 500.0), reach=2.5, pairs=0.3, minimum_distance=0.0)
    block = sampler.pool(system, 3000, 1).block(0, 3000)
    modes = normal_modes(system)
    coordinates = modes.coordinates(block.positions - system.supercell.positions, system.masses)
    sets = degenerate_sets(modes.frequencies)
    moved = np.zeros((3000, len(sets)))
    for T in (100.0, 500.0):
        rows = block.temperatures == T
        scaled = coordinates[rows] / np.sqrt(variances(modes.frequencies, T))
        moved[rows] = np.stack([np.linalg.norm(scaled[:, group], axis=1) for group in sets], axis=1)
    moved[moved < 1e-4] = 0
    assert moved.max() <= 2.5 + 1e-4
    assert moved.max() > 2.4
    counts = (moved > 0).sum(axis=1)
    assert set(counts) <= {0, 1, 2}  # 0: a coordinate that is zero to rounding
    assert (counts == 2).mean() == pytest.approx(0.3, abs=0.04)
    visits = (moved > 0).sum(axis=0)
    expected = 3000 * 1.3 / len(sets)
    assert (np.abs(visits - expected) < 6 * np.sqrt(expected)).all()
