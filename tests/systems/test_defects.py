from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.fit import full_force_constants
from activeph.phonons.modes import normal_modes
from activeph.records import System, ThermalCell
from activeph.sample.phonon import PhononSampler
from activeph.sample.random import RandomSampler
from activeph.systems import read_phonopy, write_phonopy
from activeph.systems.defects import interstitials, substitutions, vacancies

Builder = Callable[..., System]


def test_one_vacancy_per_distinct_site(crystal: Builder) -> None:
    host = crystal("perovskite")
    (found,) = vacancies(host, "O")
    assert len(found.supercell.numbers) == 39
    assert (found.supercell.numbers == 8).sum() == 23
    assert found.name == "perovskite-vacancy-O1"
    assert len(vacancies(crystal("triclinic"), "S")) == 1


def test_around_a_vacancy_atoms_move_as_in_the_host(crystal: Builder) -> None:
    host = crystal("perovskite")
    (found,) = vacancies(host, "O")
    np.testing.assert_allclose(found.force_constants.sum(axis=1), 0, atol=1e-10)
    np.testing.assert_allclose(found.force_constants, found.force_constants.transpose(1, 0, 3, 2), atol=1e-10)
    frequencies = normal_modes(found).frequencies
    assert len(frequencies) == 3 * 39 - 3
    assert frequencies[0] > 0.1
    # Classical covariances of differences do not depend on which atoms' centre rests: those of the host, atom by atom.
    full = full_force_constants(host, host.force_constants)
    (gone,) = set(range(40)) - {
        int(np.argmin(np.linalg.norm(host.supercell.positions - place, axis=1))) for place in found.supercell.positions
    }
    assert host.supercell.numbers[gone] == 8
    kept = np.delete(np.arange(40), gone)

    def differences(constants: np.ndarray, atoms: np.ndarray) -> np.ndarray:
        n = len(constants)
        inverse = np.linalg.pinv(constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)).reshape(n, 3, n, 3)
        inverse = inverse[np.ix_(atoms, range(3), atoms, range(3))]
        own = np.einsum("iaib->iab", inverse)
        return own[:, None] + own[None] - inverse.transpose(0, 2, 1, 3) - inverse.transpose(0, 2, 3, 1)

    np.testing.assert_allclose(differences(found.force_constants, np.arange(39)), differences(full, kept), atol=1e-9)


def test_a_substitution_changes_species_and_mass_alone(crystal: Builder) -> None:
    host = crystal("perovskite")
    (found,) = substitutions(host, "Ti", "Zr")
    changed = found.supercell.numbers != host.supercell.numbers
    assert changed.sum() == 1
    assert found.supercell.numbers[changed] == 40
    assert found.masses[changed] == pytest.approx(91.22, abs=0.01)
    same = substitutions(host, "Ti", "Ti")[0]
    np.testing.assert_allclose(normal_modes(same).frequencies, normal_modes(host).frequencies, atol=1e-3)


def test_interstitials_sit_in_the_largest_distinct_voids(crystal: Builder) -> None:
    host = crystal("rocksalt")
    found = interstitials(host, "Na")
    place = found[0].supercell.positions[-1] / 5.6
    # The one void of rocksalt is the tetrahedral (1/4, 1/4, 1/4) and its images: radius √3/4 a = 2.42 Å.
    np.testing.assert_allclose(np.abs((place * 4) % 2 - 1), 0, atol=1e-6)
    assert len(found) == 1
    assert len(found[0].masses) == 9
    (sodium,) = found
    np.testing.assert_allclose(sodium.force_constants.sum(axis=1), 0, atol=1e-10)
    np.testing.assert_allclose(sodium.force_constants, sodium.force_constants.transpose(1, 0, 3, 2), atol=1e-10)
    like = full_force_constants(host, host.force_constants)[0, 0]
    np.testing.assert_allclose(sodium.force_constants[-1, -1], np.eye(3) * np.trace(like) / 3, atol=1e-9)
    assert normal_modes(sodium).frequencies[0] > 0.1
    with pytest.raises(InputError, match="need a void of radius 2.5 to 4 Å but 'rocksalt' has none"):
        interstitials(host, "Na", smallest=2.5)
    with pytest.raises(InputError, match="'chain' has none"):  # but for its vacuum
        interstitials(crystal("chain"), "Na", smallest=2.5)


def test_defects_are_sampled_like_any_system(crystal: Builder) -> None:
    (vacancy,) = vacancies(crystal("perovskite"), "O")
    block = PhononSampler(temperatures=(300.0,)).pool(vacancy, 10, 1).block(0, 10)
    assert block.positions.shape == (10, 39, 3)
    interstitial = interstitials(crystal("rocksalt"), "Li")[0]
    assert RandomSampler(distribution="uniform", distance=0.1).pool(interstitial, 10, 1).block(
        0, 10
    ).positions.shape == (10, 9, 3)


def test_force_constants_of_every_temperature_go_along(crystal: Builder) -> None:
    host = crystal("rocksalt")
    warm = 0.8 * host.force_constants
    shift = np.arange(3.0 * len(host.masses)).reshape(-1, 3)
    host = dataclasses.replace(
        host,
        effective_force_constants={300.0: warm},
        thermal_cells={300.0: ThermalCell(0.01 * np.eye(3), warm, shift)},
    )
    for (found,) in (vacancies(host, "Cl"), substitutions(host, "Cl", "Br"), interstitials(host, "Na")):
        assert found.host == "rocksalt"
        np.testing.assert_allclose(found.effective_force_constants[300.0], 0.8 * found.force_constants, atol=1e-9)
        cell = found.thermal_cells[300.0]
        np.testing.assert_allclose(cell.force_constants, 0.8 * found.force_constants, atol=1e-9)
        assert cell.strain[0, 0] == 0.01
        assert cell.shift is not None
        same = np.all(found.supercell.positions[:, None] == host.supercell.positions, axis=2)
        np.testing.assert_array_equal(cell.shift[same.any(axis=1)], shift[np.flatnonzero(same.any(axis=0))])
        assert not cell.shift[~same.any(axis=1)].any()
    bare = dataclasses.replace(crystal("rocksalt"), force_constants=None)
    assert interstitials(bare, "Na")[0].force_constants is None


def test_a_defect_comes_back_from_its_file(crystal: Builder, tmp_path: Path) -> None:
    (vacancy,) = vacancies(crystal("perovskite"), "O")
    write_phonopy(vacancy, tmp_path / "phonopy_params.yaml")
    read = read_phonopy(vacancy.name, tmp_path / "phonopy_params.yaml")
    np.testing.assert_array_equal(read.supercell.numbers, vacancy.supercell.numbers)
    np.testing.assert_allclose(normal_modes(read).frequencies, normal_modes(vacancy).frequencies, atol=1e-4)


def test_wrong_elements_get_a_sentence(crystal: Builder) -> None:
    host = crystal("perovskite")
    with pytest.raises(InputError, match="must sit on one of its elements but got Na"):
        vacancies(host, "Na")
    with pytest.raises(InputError, match="must be a chemical symbol but got 'Q'"):
        substitutions(host, "Ti", "Q")
