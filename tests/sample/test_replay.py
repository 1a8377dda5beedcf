from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase
import ase.db
import ase.io
import numpy as np
import pytest

from activeph.errors import InputError
from activeph.records import System
from activeph.sample.replay import ReplaySampler

Builder = Callable[..., System]


def _frames(system: System, n: int = 12) -> tuple[list[ase.Atoms], np.ndarray]:
    rng = np.random.default_rng(4)
    u = rng.normal(size=(n, *system.supercell.positions.shape)) * 0.1
    cell = system.supercell
    frames = [
        ase.Atoms(cell.numbers, cell.positions + row, cell=cell.cell, pbc=True, info={"T": float(300 * (i % 2))})
        for i, row in enumerate(u)
    ]
    return frames, u


def test_all_structures_in_file_order(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    frames, u = _frames(system)
    ase.io.write(tmp_path / "a.extxyz", frames)
    pool = ReplaySampler(file=tmp_path / "a.extxyz").pool(system, 100, 9)
    assert pool.size == 12
    np.testing.assert_allclose(pool.block(0, 12).positions, system.supercell.positions + u, atol=1e-7)
    assert pool.block(0, 12).temperatures.tolist() == [0.0, 300.0] * 6
    few = ReplaySampler(file=tmp_path / "a.extxyz").pool(system, 5, 9)
    assert few.size == 5
    assert set(few.ids(range(5))) < set(pool.ids(range(12)))
    other = ReplaySampler(file=tmp_path / "a.extxyz").pool(system, 5, 10)
    assert other.ids(range(5)) != few.ids(range(5))


def test_ase_database_and_temperature_key(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    frames, u = _frames(system)
    with ase.db.connect(tmp_path / "a.db") as database:
        for frame in frames:
            database.write(ase.Atoms(frame), temperature=frame.info["T"])
    pool = ReplaySampler(file=tmp_path / "a.db", temperatures=(300,)).pool(system, 100, 0)
    assert pool.size == 6
    np.testing.assert_allclose(pool.block(0, 6).positions, (system.supercell.positions + u)[1::2], atol=1e-9)


def test_wrapped_and_reordered_atoms_return_to_their_sites(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    frames, u = _frames(system)
    order = np.random.default_rng(0).permutation(40)
    shuffled = []
    for frame in frames:
        copy = frame[order]
        copy.wrap()
        shuffled.append(copy)
    ase.io.write(tmp_path / "a.extxyz", shuffled)
    block = ReplaySampler(file=tmp_path / "a.extxyz").pool(system, 100, 0).block(0, 12)
    np.testing.assert_allclose(block.positions, system.supercell.positions + u, atol=1e-6)


def test_other_crystals_in_the_file_are_passed_over(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    frames, _ = _frames(system, 4)
    other = ase.Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=np.eye(3) * 5.6, pbc=True)
    ase.io.write(tmp_path / "a.extxyz", [other, *frames, other])
    pool = ReplaySampler(file=tmp_path / "a.extxyz").pool(system, 100, 0)
    assert pool.size == 4
    ase.io.write(tmp_path / "b.extxyz", [other, other])
    with pytest.raises(
        InputError, match="must hold structures with the atoms and cell of system 'perovskite' but got none of 2"
    ):
        ReplaySampler(file=tmp_path / "b.extxyz").pool(system, 100, 0)


def test_a_structure_is_there_once_and_known_again_in_another_file(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    frames, u = _frames(system, 8)
    moved = frames[1].copy()
    moved.positions += [0.1, -0.2, 0.3]
    ase.io.write(tmp_path / "all.extxyz", [*frames, frames[3], moved])
    ase.io.write(tmp_path / "test.extxyz", frames[4:6])
    whole = ReplaySampler(file=tmp_path / "all.extxyz").pool(system, 100, 0)
    test = ReplaySampler(file=tmp_path / "test.extxyz").pool(system, 100, 0)
    assert whole.size == 8
    assert whole.refused_share() == 0
    np.testing.assert_allclose(whole.block(0, 8).positions, system.supercell.positions + u, atol=1e-7)
    assert test.ids(range(2)) == whole.ids([4, 5])


def test_an_unreadable_file_gets_a_sentence(crystal: Builder, tmp_path: Path) -> None:
    (tmp_path / "a.extxyz").write_text("hello")
    with pytest.raises(InputError, match="file must hold structures that ASE reads but got"):
        ReplaySampler(file=tmp_path / "a.extxyz").pool(crystal("perovskite"), 10, 0)


def test_guards_leave_structures_out_and_tell_their_share(crystal: Builder, tmp_path: Path) -> None:
    system = crystal("perovskite")
    frames, _ = _frames(system)
    frames[3].positions[7] += [1.5, 0, 0]
    frames[5].positions[0] = frames[5].positions[9] + [0.3, 0, 0]
    frames[6].positions += [2.0, 1.0, 0.0]  # the whole crystal: no displacement
    ase.io.write(tmp_path / "a.extxyz", frames)
    pool = ReplaySampler(file=tmp_path / "a.extxyz").pool(system, 100, 9)
    assert pool.size == 11
    assert pool.refused_share() == pytest.approx(1 / 12)
    tight = ReplaySampler(file=tmp_path / "a.extxyz", largest_displacement=1.0).pool(system, 100, 9)
    assert tight.refused_share() == pytest.approx(2 / 12)
    with pytest.raises(InputError, match=r"got none of 12 in .*a.extxyz \(12 refused by guards\)"):
        ReplaySampler(file=tmp_path / "a.extxyz", minimum_distance=3.0).pool(system, 100, 9)
