from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from activeph.errors import InputError
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.thermal import covariance, rms_per_species, thermal_amplitudes
from activeph.records import System
from activeph.sample.phonon import PhononSampler
from activeph.sample.random import RandomSampler

Builder = Callable[..., System]


def _displacements(
    sampler: PhononSampler | RandomSampler, system: System, n: int = 6000
) -> tuple[np.ndarray, np.ndarray]:
    block = sampler.pool(system, n, 8).block(0, n)
    return block.positions - system.supercell.positions, block.temperatures


@pytest.mark.parametrize("statistics", ["quantum", "classical"])
def test_phonon_pool_has_the_thermal_covariance_of_each_temperature(crystal: Builder, statistics: str) -> None:
    system = crystal("wurtzite", [2, 2, 1])
    modes = harmonic_modes(system)
    sampler = PhononSampler(temperatures=(100.0, 500.0), statistics=statistics, minimum_distance=0.0)
    u, temperatures = _displacements(sampler, system, 20_000)
    assert (temperatures == 100).sum() == (temperatures == 500).sum() == 10_000
    for T in (100.0, 500.0):
        expected = covariance(modes, thermal_amplitudes(modes, T, statistics))
        rows = u[temperatures == T].reshape(10_000, -1)
        diagonal = np.diag(expected)
        errors = (rows.T @ rows / len(rows) - expected) / np.sqrt(
            (np.outer(diagonal, diagonal) + expected**2) / len(rows)
        )
        assert np.abs(errors).max() < 6


def test_amplitude_widens_the_pool(crystal: Builder) -> None:
    system = crystal("perovskite")
    plain, _ = _displacements(PhononSampler(temperatures=(300.0,), minimum_distance=0.0), system)
    wide, _ = _displacements(PhononSampler(temperatures=(300.0,), minimum_distance=0.0, amplitude=2.0), system)
    assert wide.std() / plain.std() == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("name", ["perovskite", "wurtzite", "triclinic"])
def test_matched_random_has_the_rms_of_the_phonon_pool_per_species(crystal: Builder, name: str) -> None:
    system = crystal(name)
    modes = harmonic_modes(system)
    u, temperatures = _displacements(RandomSampler(temperatures=(150.0, 600.0), minimum_distance=0.0), system, 20_000)
    numbers = system.supercell.numbers
    assert np.abs(u.mean(axis=1)).max() < 1e-5
    for T in (150.0, 600.0):
        expected = rms_per_species(modes, thermal_amplitudes(modes, T), numbers[system.primitive_atoms])
        for Z, rms in expected.items():
            found = np.sqrt((u[temperatures == T][:, numbers == Z] ** 2).sum(axis=2).mean())
            assert found == pytest.approx(rms, rel=0.01)
    # isotropic and without correlation beyond the common centre
    rows = u[temperatures == 600].reshape(10_000, -1)
    correlation = np.corrcoef(rows.T)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 4.0 / len(numbers) + 0.05


def test_uniform_is_centred_and_one_sided_is_not(crystal: Builder) -> None:
    system = crystal("perovskite")
    loose = {"minimum_distance": 0.0}
    u, temperatures = _displacements(RandomSampler(distribution="uniform", distance=0.3, **loose), system)
    assert np.isnan(temperatures).all()
    assert abs(u.mean()) < 0.002
    assert -0.3 <= u.min() < -0.299
    assert 0.299 < u.max() <= 0.3
    assert u.std() == pytest.approx(0.3 / np.sqrt(3), rel=0.01)
    u, _ = _displacements(RandomSampler(distribution="one-sided", distance=0.6, **loose), system)
    assert u.mean() == pytest.approx(0.3, rel=0.01)
    assert u.min() >= 0
    assert u.max() <= 0.6
    u, _ = _displacements(RandomSampler(distribution="one-sided", **loose), system)  # the published 0.25 to 1.25 Å
    largest = u.max(axis=(1, 2))
    assert largest.min() < 0.3
    assert 1.2 < largest.max() <= 1.25
    assert largest.mean() == pytest.approx(0.75, abs=0.02)


def test_factors_by_species(crystal: Builder) -> None:
    system = crystal("perovskite")
    numbers = system.supercell.numbers
    u, _ = _displacements(
        RandomSampler(distribution="uniform", distance=0.1, by_species={"O": 2.0, "Ti": 0.0}, minimum_distance=0.0),
        system,
    )
    largest = [np.abs(u[:, numbers == Z]).max() for Z in (38, 22, 8)]
    np.testing.assert_allclose(largest, [0.1, 0.0, 0.2], rtol=0.01)
    plain = RandomSampler(temperatures=(300.0,), minimum_distance=0.0)
    wide, _ = _displacements(plain.model_copy(update={"by_species": {"O": 2.0}}), system)
    u, _ = _displacements(plain, system)
    ratio = wide[:, numbers == 8].std() / u[:, numbers == 8].std()
    assert ratio == pytest.approx(2.0, rel=0.03)
    with pytest.raises(
        InputError, match="by_species must name elements of system 'perovskite' but got H; it has O, Sr"
    ):
        RandomSampler(distribution="uniform", by_species={"H": 1.0}).pool(system, 5, 1)


def test_random_without_force_constants(crystal: Builder) -> None:
    bare = dataclasses.replace(crystal("perovskite"), force_constants=None)
    u, _ = _displacements(RandomSampler(temperatures=(300.0,)), bare)
    assert u.std() == pytest.approx(0.3 / np.sqrt(3), rel=0.01)  # uniform by default
    with pytest.raises(InputError, match="must have force constants but got none"):
        RandomSampler(distribution="matched", temperatures=(300.0,)).pool(bare, 10, 0)


def test_missing_temperatures_and_imaginary_modes_get_a_sentence(crystal: Builder) -> None:
    with pytest.raises(InputError, match="sampler must know temperatures but got none"):
        PhononSampler().pool(crystal("perovskite"), 10, 0)
    unstable = crystal("perovskite", across=-0.35)
    for sampler in (PhononSampler(temperatures=(300.0,)), RandomSampler(temperatures=(300.0,))):
        with pytest.raises(
            InputError, match=r"all vibrations must have real frequencies but got \d+ .*: -\d.\d\d at q = \("
        ):
            sampler.pool(unstable, 10, 0)
    for policy in ("skip", "absolute", "floor"):
        u, _ = _displacements(PhononSampler(temperatures=(300.0,), imaginary=policy), unstable, 300)
        assert np.isfinite(u).all()


def test_renormalised_force_constants_are_used_at_their_temperature(crystal: Builder) -> None:
    unstable = crystal("perovskite", across=-0.35)
    cold, warm = crystal("perovskite"), crystal("perovskite", along=5.0)
    system = dataclasses.replace(
        unstable, effective_force_constants={150.0: cold.force_constants, 600.0: warm.force_constants}
    )
    for kind in (PhononSampler, RandomSampler):
        mixed = kind(temperatures=(150.0, 600.0), imaginary="renormalise", minimum_distance=0.0)
        u, temperatures = _displacements(mixed, system)
        for T, truth in ((150.0, cold), (600.0, warm)):
            alone, _ = _displacements(kind(temperatures=(T,), minimum_distance=0.0), truth)
            assert u[temperatures == T].std() == pytest.approx(alone.std(), rel=0.02)
    with pytest.raises(InputError, match="must have renormalised force constants at 300 K but got 150, 600"):
        PhononSampler(temperatures=(300.0,), imaginary="renormalise").pool(system, 10, 0)


@pytest.mark.parametrize(
    "keys",
    [
        {"temperatures": [-5.0]},
        {"temperatures": []},
        {"temperatures": ["300"]},
        {"temperatures": 300.0},
        {"statistics": "boltzmann"},
        {"imaginary": "ignore"},
        {"floor": 0.0},
        {"amplitude": 0.0},
        {"minimum_distance": -1.0},
        {"largest_displacement": 0.0},
        {"strain": -0.1},
        {"temperature": [300.0]},
        {"amplitude": float("nan")},
    ],
)
def test_wrong_keys_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PhononSampler(**keys)


@pytest.mark.parametrize("distance", [0.0, (0.5, 0.1), (-0.1, 0.1)])
def test_wrong_distances_get_a_sentence(crystal: Builder, distance: object) -> None:
    with pytest.raises(InputError, match="distance must be positive, lowest before highest, but got"):
        RandomSampler(distribution="uniform", distance=distance).pool(crystal("perovskite"), 10, 0)


def test_ids_change_with_settings_and_system(crystal: Builder) -> None:
    system = crystal("perovskite")
    stiffer = dataclasses.replace(system, force_constants=1.01 * system.force_constants)
    heavier = dataclasses.replace(system, masses=1.01 * system.masses)
    pools = [
        PhononSampler(temperatures=(300.0,)).pool(system, 5, 1),
        PhononSampler(temperatures=(301.0,)).pool(system, 5, 1),
        RandomSampler(temperatures=(300.0,)).pool(system, 5, 1),
        PhononSampler(temperatures=(300.0,)).pool(stiffer, 5, 1),
        PhononSampler(temperatures=(300.0,)).pool(heavier, 5, 1),
        PhononSampler(temperatures=(300.0,)).pool(system, 5, 2),
    ]
    assert len({pool.ids([0])[0] for pool in pools}) == len(pools)


def test_strain_moves_cell_and_atoms_together(crystal: Builder) -> None:
    system = crystal("perovskite")
    sampler = PhononSampler(temperatures=(0.0,), statistics="classical", strain=0.02)  # classical at 0 K: no motion
    block = sampler.pool(system, 3000, 1).block(0, 3000)
    cell = system.supercell.cell
    strains = np.linalg.inv(cell) @ block.cells - np.eye(3)
    np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=1e-12)
    six = strains[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(six.std(axis=0), 0.02, rtol=0.06)
    fractions = block.positions @ np.linalg.inv(block.cells)
    np.testing.assert_allclose(
        fractions, np.broadcast_to(system.supercell.positions @ np.linalg.inv(cell), fractions.shape), atol=1e-10
    )


@pytest.mark.parametrize("sampler", [PhononSampler(temperatures=(300.0,)), RandomSampler(temperatures=(300.0,))])
def test_last_digits_of_the_force_constants_do_not_change_the_draw(crystal: Builder, sampler: PhononSampler) -> None:
    """Another processor or thread count rounds force constants otherwise; the campaign must select the same."""
    system = crystal("perovskite")
    noise = 1 + 1e-12 * np.random.default_rng(0).standard_normal(system.force_constants.shape)
    other = dataclasses.replace(system, force_constants=system.force_constants * noise)
    mine, theirs = (sampler.pool(one, 600, 7).block(0, 600).positions for one in (system, other))
    np.testing.assert_allclose(mine, theirs, atol=1e-7)
