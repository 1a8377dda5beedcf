from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from activeph.errors import InputError
from activeph.phonons.fit import full_force_constants
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import displacement_tensors, thermal_amplitudes
from activeph.records import System
from activeph.sample.md import MdSampler

Builder = Callable[..., System]


@pytest.fixture(scope="module")
def system(crystal: Builder) -> System:
    return crystal("rocksalt")


@pytest.fixture(scope="module", autouse=True)
def _springs(system: System) -> Iterator[None]:
    """An importable module with the crystal's springs as a calculator."""
    full = full_force_constants(system, system.force_constants)
    sites = system.supercell.positions

    class Springs(Calculator):
        implemented_properties = ["energy", "forces"]

        def __init__(self, sign: float = 1.0) -> None:
            super().__init__()
            self.sign = sign

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
            super().calculate(atoms, properties, system_changes)
            u = self.atoms.positions - sites
            forces = -self.sign * np.einsum("ijxy,jy->ix", full, u)
            self.results = {"energy": float(-0.5 * np.sum(forces * u)), "forces": forces}

    module = types.ModuleType("springs_for_md")
    module.Springs = Springs  # type: ignore[attr-defined]
    sys.modules["springs_for_md"] = module
    yield
    del sys.modules["springs_for_md"]


FAST = {
    "calculator": "springs_for_md:Springs",
    "timestep": 4.0,
    "equilibration": 400.0,
    "interval": 80.0,
    "snapshots": 20,
}


def test_dynamics_visit_the_classical_ensemble(system: System) -> None:
    pool = MdSampler(temperatures=(300.0,), **FAST).pool(system, 400, 1)
    u = pool.block(0, 400).positions - system.supercell.positions
    modes = harmonic_modes(system)
    tensors = displacement_tensors(modes, thermal_amplitudes(modes, 300.0, "classical"))
    numbers = system.supercell.numbers
    for site, atom in enumerate(system.primitive_atoms):
        found = (u[:, numbers == numbers[atom]] ** 2).sum(axis=2).mean()
        assert found == pytest.approx(np.trace(tensors[site]), rel=0.1)
    assert np.abs(np.einsum("n,bnx->bx", system.masses, u)).max() < 1e-9


def test_candidates_depend_on_seed_and_index_alone(system: System) -> None:
    sampler = MdSampler(temperatures=(100.0, 500.0), **{**FAST, "equilibration": 40.0, "snapshots": 3})
    whole = sampler.pool(system, 12, 4).block(0, 12)
    late = sampler.pool(system, 100, 4)
    assert np.array_equal(late.block(7, 12).positions, whole.positions[7:12])
    assert np.array_equal(late.block(0, 7).positions, whole.positions[:7])
    assert whole.temperatures.tolist() == [100.0] * 3 + [500.0] * 3 + [100.0] * 3 + [500.0] * 3
    assert len(np.unique(whole.positions.reshape(12, -1), axis=0)) == 12
    assert len(set(late.ids(range(100)))) == 100
    other = sampler.pool(system, 12, 5).block(0, 12)
    assert not np.array_equal(other.positions, whole.positions)


def test_snapshots_tell_how_far_they_are_correlated(system: System) -> None:
    keys = {**FAST, "temperatures": (300.0,), "timestep": 2.0, "snapshots": 40}
    apart = MdSampler(**{**keys, "interval": 500.0, "snapshots": 10}).pool(system, 30, 1)
    assert apart.correlation() is None
    apart.block(0, 30)
    close = MdSampler(**{**keys, "interval": 4.0}).pool(system, 40, 1)
    close.block(0, 40)
    assert abs(apart.correlation()) < 0.15
    assert close.correlation() > 0.8


def test_a_trajectory_is_run_once_in_a_process(system: System) -> None:
    sampler = MdSampler(temperatures=(250.0,), **{**FAST, "equilibration": 40.0, "snapshots": 3})
    first = sampler.pool(system, 6, 11)
    block = first.block(0, 6)
    again = sampler.pool(system, 600, 11)
    object.__setattr__(again, "_run", lambda number: pytest.fail("run again"))
    np.testing.assert_array_equal(again.block(0, 6).positions, block.positions)
    assert again.refused_share() == first.refused_share() == 0
    assert sampler.pool(system, 6, 12).refused_share() is None


def test_a_copper_cell_breathes_at_constant_pressure(tmp_path: object) -> None:
    from activeph.records import Configuration
    from activeph.systems.load import make_system

    a = 3.59
    unit = Configuration(
        np.array([29] * 4), np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * a, np.eye(3) * a
    )
    copper = make_system("Cu", unit, [1, 1, 1])
    sampler = MdSampler(
        calculator="ase.calculators.emt:EMT", temperatures=(300.0,), ensemble="npt", timestep=4.0, equilibration=400.0,
        interval=40.0, snapshots=10,
    )  # fmt: skip
    block = sampler.pool(copper, 20, 1).block(0, 20)
    volumes = np.linalg.det(block.cells)
    assert 0.001 < volumes.std() / volumes.mean() < 0.1
    assert volumes.mean() == pytest.approx(a**3, rel=0.1)
    fractions = block.positions @ np.linalg.inv(block.cells) - copper.supercell.positions / a
    assert np.abs(fractions).max() < 0.15


def test_snapshots_pass_the_guard_and_a_broken_crystal_gets_a_sentence(system: System) -> None:
    keys = {**FAST, "equilibration": 40.0, "snapshots": 10}
    free = MdSampler(temperatures=(400.0,), **keys).pool(system, 40, 1).block(0, 40)
    farthest = np.linalg.norm(free.positions - system.supercell.positions, axis=2).max(axis=1)
    limit = float(np.median(farthest))
    pool = MdSampler(temperatures=(400.0,), largest_displacement=limit, **keys).pool(system, 20, 1)
    assert np.linalg.norm(pool.block(0, 20).positions - system.supercell.positions, axis=2).max() <= limit
    assert 0 < pool.refused_share() < 1
    repelled = MdSampler(temperatures=(300.0,), arguments={"sign": -1.0}, **{**keys, "equilibration": 4000.0})
    with pytest.raises(InputError, match="md must keep the crystal together but got atoms too close or too far"):
        repelled.pool(system, 5, 1).block(0, 1)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"calculator": "nowhere:Emt"}, "must be the import path of an ASE calculator but got 'nowhere:Emt'"),
        ({"arguments": {"colour": 3}}, "sample.arguments must suit springs_for_md:Springs but got TypeError"),
        ({"temperatures": None}, "sampler must know temperatures but got none"),
    ],
)
def test_wrong_keys_get_a_sentence(system: System, keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        MdSampler(**{**FAST, "temperatures": (300.0,), **keys}).pool(system, 5, 1).block(0, 1)
