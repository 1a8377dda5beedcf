from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from pydantic import ValidationError

from activeph.errors import InputError
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import covariance, thermal_amplitudes
from activeph.records import System
from activeph.sample.disorder import DisorderSampler
from activeph.sample.phonon import PhononSampler
from activeph.systems import write_phonopy
from activeph.systems.end_member import end_member

Builder = Callable[..., System]


@pytest.fixture(scope="module")
def ends(crystal: Builder, tmp_path_factory: pytest.TempPathFactory) -> tuple[System, System, Path, Path]:
    """SrTiO3 and BaTiO3 of springs, the second 3 % larger, its atoms in another order in its file."""
    folder = tmp_path_factory.mktemp("ends")
    first = crystal("perovskite")
    cell = first.unit_cell
    order = [4, 0, 2, 1, 3]
    atoms = ase.Atoms(
        np.where(cell.numbers == 38, 56, cell.numbers), cell.positions * 1.03, cell=cell.cell * 1.03, pbc=True
    )
    ase.io.write(folder / "other.extxyz", atoms[order])
    second = end_member(first, 38, 56, folder / "other.extxyz")
    second = dataclasses.replace(second, force_constants=1.7 * first.force_constants)
    write_phonopy(second, folder / "other.yaml")
    return first, second, folder / "other.extxyz", folder / "other.yaml"


def _sampler(ends: tuple[System, System, Path, Path], **keys: object) -> DisorderSampler:
    defaults: dict[str, object] = {"temperatures": (300.0,), "replace": "Sr", "by": "Ba", "minimum_distance": 0.0}
    return DisorderSampler(**{**defaults, "end_member": ends[2], "end_member_force_constants": ends[3], **keys})


def test_composition_cell_and_species_go_together(ends: tuple[System, System, Path, Path]) -> None:
    first, second, *_ = ends
    block = _sampler(ends, composition=(0.25, 0.75)).pool(first, 2000, 1).block(0, 2000)
    counts = (block.species == 56).sum(axis=1)
    assert set(counts) == {2, 3, 4, 5, 6}
    assert (np.abs(np.bincount(counts)[2:] - 400) < 100).all()
    assert ((block.species == 38) | (block.species == 56)).sum() == 2000 * 8
    expected = first.supercell.cell + (counts / 8)[:, None, None] * (second.supercell.cell - first.supercell.cell)
    np.testing.assert_allclose(block.cells, expected, atol=1e-9)
    per_site = (block.species[:, first.supercell.numbers == 38] == 56).mean(axis=0)
    np.testing.assert_allclose(per_site, 0.5, atol=0.06)


def test_the_ends_are_the_pure_crystals(ends: tuple[System, System, Path, Path]) -> None:
    first, second, *_ = ends
    for x, pure in ((0.0, first), (1.0, second)):
        block = _sampler(ends, composition=x).pool(first, 6000, 1).block(0, 6000)
        assert np.array_equal(block.species[0], pure.supercell.numbers)
        np.testing.assert_allclose(block.cells[0], pure.supercell.cell, atol=1e-9)
        u = (block.positions - pure.supercell.positions).reshape(6000, -1)
        modes = harmonic_modes(pure)
        expected = covariance(modes, thermal_amplitudes(modes, 300.0))
        diagonal = np.diag(expected)
        errors = (u.T @ u / 6000 - expected) / np.sqrt((np.outer(diagonal, diagonal) + expected**2) / 6000)
        assert np.abs(errors).max() < 6


def test_binomial_by_default_and_amplitudes_between_the_ends(ends: tuple[System, System, Path, Path]) -> None:
    first, second, *_ = ends
    block = _sampler(ends).pool(first, 4000, 2).block(0, 4000)
    counts = (block.species == 56).sum(axis=1)
    assert counts.mean() == pytest.approx(4, abs=0.1)
    assert counts.var() == pytest.approx(2, rel=0.1)

    def spread(system: System) -> float:
        pool = PhononSampler(temperatures=(300.0,), minimum_distance=0.0).pool(system, 2000, 1)
        return float((pool.block(0, 2000).positions - system.supercell.positions).std())

    half = block.positions[counts == 4]
    middle = (half - half.mean(axis=0)).std()
    assert spread(second) < middle < spread(first)


def test_without_an_end_member_only_species_and_masses_change(crystal: Builder) -> None:
    system = crystal("perovskite")
    block = (
        DisorderSampler(replace="O", by="S", composition=0.5, temperatures=(300.0,)).pool(system, 300, 1).block(0, 300)
    )
    np.testing.assert_array_equal(block.cells, np.broadcast_to(system.supercell.cell, (300, 3, 3)))
    assert ((block.species == 16).sum(axis=1) == 12).all()


def test_isotopes_of_other_elements_stay(crystal: Builder) -> None:
    system = crystal("perovskite")
    titanium = system.supercell.numbers == 22
    heavy = dataclasses.replace(system, masses=np.where(titanium, 60.0, system.masses))
    other = end_member(heavy, 8, 16)
    assert set(other.masses[titanium]) == {60.0}
    assert other.masses[other.supercell.numbers == 16] == pytest.approx(32.06, abs=0.01)


def test_refused_draws_keep_their_decoration(ends: tuple[System, System, Path, Path]) -> None:
    first = ends[0]
    free = _sampler(ends).pool(first, 512, 1)
    tight = _sampler(ends, largest_displacement=0.27).pool(first, 512, 1)
    assert 0.05 < tight.refused_share() < 0.9
    before, after = free.block(0, 512), tight.block(0, 512)
    # names differ, so the streams do: composition must still be binomial and not follow what the guard accepts
    counts = (after.species == 56).sum(axis=1)
    assert counts.mean() == pytest.approx((before.species == 56).sum(axis=1).mean(), abs=0.4)


def test_a_campaign_may_move(ends: tuple[System, System, Path, Path], tmp_path: Path) -> None:
    import shutil

    first, _, structure, constants = ends
    here = _sampler(ends).pool(first, 300, 1)
    moved = [Path(shutil.copy(path, tmp_path)) for path in (structure, constants)]
    rounded = dataclasses.replace(first, force_constants=first.force_constants * (1 + 1e-15))
    there = _sampler(ends, end_member=moved[0], end_member_force_constants=moved[1]).pool(rounded, 300, 1)
    assert here.ids(range(300)) == there.ids(range(300))
    np.testing.assert_allclose(here.block(0, 300).positions, there.block(0, 300).positions, atol=1e-5)


def test_an_element_is_not_replaced_by_itself() -> None:
    with pytest.raises(ValidationError, match="must put another element in place"):
        DisorderSampler(replace="O", by="O")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"replace": "Na"}, "replace must be an element of system 'perovskite' but got Na"),
        ({"by": "Xx"}, "must be chemical symbols but got 'Xx'"),
        ({"composition": 0.3}, r"composition must be a number of the 8 Sr sites but got 0.3; take 0.25 or 0.375"),
        ({"composition": (0.6, 0.2)}, r"must have its lowest share first but got \(0.6, 0.2\)"),
        ({"by": "Ca"}, "end_member must be the same unit cell with one element replaced but got"),
    ],
)
def test_wrong_keys_get_a_sentence(
    ends: tuple[System, System, Path, Path], keys: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        _sampler(ends, **keys).pool(ends[0], 10, 0)
