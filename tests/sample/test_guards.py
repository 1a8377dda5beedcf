from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np
import pytest

from activeph.errors import InputError
from activeph.records import System
from activeph.sample.guards import Guard
from activeph.sample.phonon import PhononSampler
from activeph.sample.random import RandomSampler

Builder = Callable[..., System]


def _closest(system: System, u: np.ndarray, strain: np.ndarray | None = None) -> float:
    """Smallest distance between any two atoms or images, by ASE."""
    from ase.neighborlist import neighbor_list

    stretch = np.eye(3) if strain is None else np.eye(3) + strain
    cell = system.supercell
    atoms = ase.Atoms(cell.numbers, cell.positions @ stretch + u, cell=cell.cell @ stretch, pbc=True)
    return float(neighbor_list("d", atoms, 5.0, self_interaction=False).min())


@pytest.mark.parametrize("name", ["perovskite", "triclinic", "chain", "slab"])
@pytest.mark.parametrize("strained", [False, True])
def test_smallest_distance_is_that_of_ase(crystal: Builder, name: str, strained: bool) -> None:
    system = crystal(name)
    rng = np.random.default_rng(1)
    u = rng.normal(size=(30, *system.supercell.positions.shape)) * rng.uniform(0.02, 0.9, (30, 1, 1))
    strains = None
    if strained:
        strains = rng.normal(size=(30, 3, 3)) * 0.05  # cells of files and dynamics are turned and sheared too
    truth = np.array([_closest(system, u[i], None if strains is None else strains[i]) for i in range(30)])
    for limit in (0.6, 1.2, 1.9):
        accepted = Guard(system, limit, None).accepts(u, strains)
        clear = np.abs(truth - limit) > 1e-5
        np.testing.assert_array_equal(accepted[clear], (truth >= limit)[clear])


def test_an_atom_that_meets_its_own_image_counts(crystal: Builder) -> None:
    system = crystal("chain", [1, 1, 1])  # 4.6 Å long
    squeeze = np.zeros((1, 3, 3))
    squeeze[0, 0, 0] = -0.5
    still = np.zeros((1, *system.supercell.positions.shape))
    assert Guard(system, 1.0, None).accepts(still, squeeze).all()
    assert not Guard(system, 2.31, None).accepts(still, squeeze).any()


def test_half_the_covalent_radii_by_default(crystal: Builder) -> None:
    system = crystal("chain")  # I-Br: covalent radii 1.39 + 1.20 Å
    u = np.zeros((2, *system.supercell.positions.shape))
    gap = system.supercell.positions[:, 0]
    first, second = np.argsort(gap)[:2]
    bond = gap[second] - gap[first]
    u[0, second, 0] = 1.30 - bond
    u[1, second, 0] = 1.29 - bond
    assert Guard(system, None, None).accepts(u).tolist() == [True, False]


def test_largest_displacement(crystal: Builder) -> None:
    system = crystal("perovskite")
    u = np.zeros((2, 40, 3))
    u[0, 7] = [0.2, 0.2, 0.1]  # 0.3 Å
    u[1, 7] = [0.2, 0.2, 0.11]
    assert Guard(system, 0.0, 0.3 + 1e-9).accepts(u).tolist() == [True, False]


def test_pools_hold_no_refused_candidate_and_report_the_share(crystal: Builder) -> None:
    system = crystal("perovskite")
    sampler = PhononSampler(temperatures=(300.0, 900.0), largest_displacement=0.45, minimum_distance=1.5)
    pool = sampler.pool(system, 1024, 3)
    u = pool.block(0, 1024).positions - system.supercell.positions
    assert np.linalg.norm(u, axis=2).max() <= 0.45
    assert min(_closest(system, u[i]) for i in range(0, 1024, 50)) >= 1.5
    free = PhononSampler(temperatures=(300.0, 900.0), minimum_distance=0.0).pool(system, 1024, 3)
    raw = free.block(0, 1024).positions - system.supercell.positions
    would = 1 - Guard(system, 1.5, 0.45).accepts(raw).mean()
    assert 0.02 < would < 0.98
    per_temperature = [1 - Guard(system, 1.5, 0.45).accepts(raw[i::2]).mean() for i in (0, 1)]
    # a refused draw is repeated at its own temperature: expected attempts 1 / (1 - p) each
    attempts = np.mean([1 / (1 - p) for p in per_temperature])
    assert pool.refused_share() == pytest.approx(1 - 1 / attempts, abs=0.06)
    assert free.refused_share() == 0


def test_impossible_guards_get_a_sentence(crystal: Builder) -> None:
    sampler = RandomSampler(distribution="uniform", distance=0.3, minimum_distance=3.0)
    with pytest.raises(
        InputError, match="sampler must find configurations that its guards accept but got 300 refusals"
    ):
        sampler.pool(crystal("perovskite"), 10, 0).block(0, 10)
