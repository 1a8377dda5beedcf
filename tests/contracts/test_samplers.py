"""What every sampler promises: streams, candidates that depend on seed and index alone, names that hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activeph.records import System
from activeph.sample.base import Sampler, pick, systems_of
from activeph.sample.defects import DefectsSampler
from activeph.sample.disorder import DisorderSampler
from activeph.sample.mixture import MixtureSampler
from activeph.sample.mode_scan import ModeScanSampler
from activeph.sample.phonon import PhononSampler
from activeph.sample.random import RandomSampler
from activeph.sample.replay import ReplaySampler

N = 700  # more than two blocks of the drawn pools

SAMPLERS: dict[str, Callable[[Path], Sampler]] = {
    "phonon": lambda file: PhononSampler(temperatures=(150.0, 300.0, 600.0)),
    "phonon-classical-strained": lambda file: PhononSampler(
        temperatures=(300.0,), statistics="classical", strain=0.01, amplitude=1.3
    ),
    "phonon-guarded": lambda file: PhononSampler(temperatures=(600.0,), largest_displacement=0.36),
    "random-matched": lambda file: RandomSampler(temperatures=(150.0, 600.0)),
    "random-uniform": lambda file: RandomSampler(distribution="uniform", distance=0.2),
    "random-one-sided": lambda file: RandomSampler(distribution="one-sided", distance=(0.1, 0.4)),
    "disorder": lambda file: DisorderSampler(temperatures=(300.0, 600.0), replace="O", by="S", strain=0.01),
    "defects-vacancy": lambda file: DefectsSampler(vacancies=["O"], temperatures=(300.0, 600.0)),
    "defects-interstitial": lambda file: DefectsSampler(
        interstitials=["Li"], sample={"kind": "random", "strain": 0.01}, temperatures=(300.0, 600.0)
    ),
    "mode-scan": lambda file: ModeScanSampler(temperatures=(300.0, 600.0)),
    "mixture": lambda file: MixtureSampler(
        parts=[{"sample": "phonon", "weight": 2.0}, {"sample": {"kind": "random", "distribution": "uniform"}}],
        temperatures=(300.0, 600.0),
    ),
    "replay": lambda file: ReplaySampler(file=file),
}


@pytest.fixture(scope="module")
def file(crystal: Callable[..., System], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "labelled.extxyz"
    rng = np.random.default_rng(0)
    cell = crystal("perovskite").supercell
    frames = []
    for i in range(N):
        u = rng.normal(size=cell.positions.shape) * 0.05
        frames.append(
            ase.Atoms(cell.numbers, cell.positions + u, cell=cell.cell, pbc=True, info={"T": 100.0 * (i % 3)})
        )
    ase.io.write(path, frames)
    return path


@pytest.fixture(params=sorted(SAMPLERS))
def sampler(request: pytest.FixtureRequest, file: Path) -> Sampler:
    return SAMPLERS[request.param](file)


@pytest.fixture
def system(crystal: Callable[..., System], sampler: Sampler) -> System:
    """The crystal, or what the sampler makes of it."""
    return systems_of(sampler, crystal("perovskite"))[0]


def test_a_block_has_the_shapes_of_the_records(sampler: Sampler, system: System) -> None:
    block = sampler.pool(system, N, 1).block(10, 17)
    assert block.system == system.name
    n_atoms = {"defects": len(system.masses)}.get(sampler.kind, 40)
    assert block.positions.shape == (7, n_atoms, 3)
    assert block.positions.dtype == np.float64
    assert block.cells.shape == (7, 3, 3)
    assert block.species.shape == (7, n_atoms)
    assert block.temperatures.shape == (7,)
    changed = block.species != system.supercell.numbers
    assert changed.any() == (sampler.kind == "disorder")
    assert np.isfinite(block.positions).all()


def test_a_candidate_is_the_same_in_whatever_block(sampler: Sampler, system: System) -> None:
    pool = sampler.pool(system, N, 3)
    whole = pool.block(0, pool.size)
    for start, stop in ((0, 1), (255, 257), (256, 512), (300, 300), (511, 700), (699, 700)):
        part = pool.block(start, stop)
        assert np.array_equal(part.positions, whole.positions[start:stop])
        assert np.array_equal(part.species, whole.species[start:stop])
        assert np.array_equal(part.cells, whole.cells[start:stop])
        assert np.array_equal(part.temperatures, whole.temperatures[start:stop], equal_nan=True)


def test_same_seed_same_pool_even_from_a_copy_in_another_process(sampler: Sampler, system: System) -> None:
    first = sampler.pool(system, N, 5).block(0, 300)
    copy = pickle.loads(pickle.dumps(sampler))
    again = copy.pool(pickle.loads(pickle.dumps(system)), N, 5).block(0, 300)
    assert np.array_equal(first.positions, again.positions)
    assert np.array_equal(first.cells, again.cells)


def test_the_size_of_the_pool_changes_no_candidate(sampler: Sampler, system: System) -> None:
    if sampler.kind == "replay":
        assert len(sampler.pool(system, 10**6, 0).block(0, N)) == N  # a file has no more
        return
    small, large = sampler.pool(system, 20, 5), sampler.pool(system, 10_000_000, 5)
    assert np.array_equal(small.block(0, 20).positions, large.block(0, 20).positions)
    assert np.isfinite(large.block(9_999_990, 10_000_000).positions).all()


def test_ids_name_configurations(sampler: Sampler, system: System) -> None:
    pool, other = sampler.pool(system, N, 1), sampler.pool(system, N, 2)
    ids = pool.ids(range(N))
    assert len(set(ids)) == N
    assert pool.ids([5, 3]) == [ids[5], ids[3]]
    by_name: dict[str, bytes] = {}
    for some in (pool, other):
        block = some.block(0, N)
        for name, positions in zip(some.ids(range(N)), block.positions, strict=True):
            assert by_name.setdefault(name, positions.tobytes()) == positions.tobytes()
    distinct = N if sampler.kind == "replay" else 2 * N
    assert len(by_name) == distinct


def test_picked_candidates_are_those_of_the_pool(sampler: Sampler, system: System) -> None:
    pool = sampler.pool(system, N, 1)
    block = pool.block(0, N)
    for candidate, index in zip(pick(pool, [400, 2, 699]), [400, 2, 699], strict=True):
        assert candidate.id == pool.ids([index])[0]
        assert np.array_equal(candidate.configuration.positions, block.positions[index])
        assert candidate.temperature == block.temperatures[index] or np.isnan(block.temperatures[index])


def test_blocks_outside_the_pool_are_refused(sampler: Sampler, system: System) -> None:
    pool = sampler.pool(system, 20, 1)
    for start, stop in ((-1, 3), (0, 21), (5, 4)):
        with pytest.raises(IndexError, match="block must lie in 0..20"):
            pool.block(start, stop)
    assert len(pool.block(7, 7)) == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 2**63 - 1))
def test_any_seed_and_any_cut(crystal: Callable[..., System], data: st.DataObject, seed: int) -> None:
    pool = PhononSampler(temperatures=(10.0, 900.0), minimum_distance=1.3).pool(crystal("chain"), 2000, seed)
    start = data.draw(st.integers(0, 1999))
    middle = data.draw(st.integers(start, 2000))
    stop = data.draw(st.integers(middle, 2000))
    left, right = pool.block(start, middle).positions, pool.block(middle, stop).positions
    assert np.array_equal(np.concatenate([left, right]), pool.block(start, stop).positions)
