from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.modes import normal_modes
from activeph.records import System
from activeph.sample.phonon import PhononSampler
from activeph.sample.random import RandomSampler
from activeph.systems import load_system
from activeph.systems.defects import interstitials, substitutions, vacancies
from activeph.systems.files import write_system

Builder = Callable[..., System]


def test_one_vacancy_per_distinct_site(crystal: Builder) -> None:
    host = crystal("perovskite")
    (found,) = vacancies(host, "O")
    assert len(found.supercell.numbers) == 39
    assert (found.supercell.numbers == 8).sum() == 23
    assert found.name == "perovskite-vacancy-O1"
    assert len(vacancies(crystal("triclinic"), "S")) == 1


def test_a_vacancy_takes_its_springs_along(crystal: Builder) -> None:
    host = crystal("perovskite")
    (found,) = vacancies(host, "O")
    np.testing.assert_allclose(found.force_constants.sum(axis=1), 0, atol=1e-10)
    np.testing.assert_allclose(found.force_constants, found.force_constants.transpose(1, 0, 3, 2), atol=1e-10)
    frequencies = normal_modes(found).frequencies
    assert len(frequencies) == 3 * 39 - 3
    assert frequencies[0] > 0.1  # springs were only taken away, and no atom hangs loose
    assert frequencies[-1] <= normal_modes(host).frequencies[-1] + 1e-6  # Rayleigh: softer springs, lower frequencies


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
    assert found[0].force_constants is None
    with pytest.raises(InputError, match="need a void of radius 2.5 Å but 'rocksalt' has none"):
        interstitials(host, "Na", smallest=2.5)


def test_defects_are_sampled_like_any_system(crystal: Builder) -> None:
    (vacancy,) = vacancies(crystal("perovskite"), "O")
    block = PhononSampler(temperatures=(300.0,)).pool(vacancy, 10, 1).block(0, 10)
    assert block.positions.shape == (10, 39, 3)
    interstitial = interstitials(crystal("rocksalt"), "Li")[0]
    assert RandomSampler(distance=0.1).pool(interstitial, 10, 1).block(0, 10).positions.shape == (10, 9, 3)


def test_a_defect_becomes_a_system_of_a_campaign(crystal: Builder, tmp_path: Path) -> None:
    (vacancy,) = vacancies(crystal("perovskite"), "O")
    structure, constants = write_system(vacancy, tmp_path)
    read = load_system("vacancy", structure, [1, 1, 1], constants)
    np.testing.assert_array_equal(read.supercell.numbers, vacancy.supercell.numbers)
    np.testing.assert_allclose(normal_modes(read).frequencies, normal_modes(vacancy).frequencies, atol=1e-4)
    bare, nothing = write_system(interstitials(crystal("rocksalt"), "Li")[0], tmp_path)
    assert nothing is None
    assert len(load_system("interstitial", bare, [1, 1, 1]).supercell.numbers) == 9


def test_wrong_elements_get_a_sentence(crystal: Builder) -> None:
    host = crystal("perovskite")
    with pytest.raises(InputError, match="must sit on one of its elements but got Na"):
        vacancies(host, "Na")
    with pytest.raises(InputError, match="must be a chemical symbol but got 'Q'"):
        substitutions(host, "Ti", "Q")
