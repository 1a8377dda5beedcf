import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.identity import aligned, configuration_key, label_key
from activeph.records import Configuration, Label

CELL = np.array([[7.1, 0.0, 0.0], [0.4, 6.3, 0.0], [-0.2, 0.9, 8.2]])


def random_configuration(seed: int, n_atoms: int = 9) -> Configuration:
    rng = np.random.default_rng(seed)
    numbers = rng.choice([3, 9, 17], n_atoms).astype(np.int64)
    return Configuration(numbers, rng.random((n_atoms, 3)) @ CELL, CELL.copy())


def label_of(configuration: Configuration) -> Label:
    n_atoms = len(configuration.numbers)
    forces = np.random.default_rng(1).normal(size=(n_atoms, 3))
    bands = np.zeros((1, 1, 2))
    return Label(configuration, -1.0, forces, np.zeros(6), 1.0, 1.0, 0.0, 1.0, bands, bands)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), change=st.integers(0, 10_000))
def test_translation_order_and_images_are_the_same_calculation(seed: int, change: int) -> None:
    configuration = random_configuration(seed)
    rng = np.random.default_rng(change)
    order = rng.permutation(len(configuration.numbers))
    images = rng.integers(-3, 4, size=(len(order), 3)) @ CELL
    moved = Configuration(
        configuration.numbers[order], configuration.positions[order] + images + rng.normal(size=3), CELL
    )
    assert configuration_key(moved) == configuration_key(configuration)
    label = label_of(configuration)
    np.testing.assert_array_equal(aligned(label, moved).forces, label.forces[order])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), atom=st.integers(0, 8), axis=st.integers(0, 2))
def test_a_moved_atom_is_another_calculation(seed: int, atom: int, axis: int) -> None:
    configuration = random_configuration(seed)
    positions = configuration.positions.copy()
    positions[atom, axis] += 1e-3
    assert configuration_key(Configuration(configuration.numbers, positions, CELL)) != configuration_key(configuration)


def test_species_cell_and_fingerprint_make_another_calculation() -> None:
    configuration = random_configuration(3)
    other_species = Configuration(
        np.where(configuration.numbers == 3, 11, configuration.numbers), configuration.positions, CELL
    )
    strained = Configuration(configuration.numbers, configuration.positions * 1.001, CELL * 1.001)
    keys = {configuration_key(each) for each in (configuration, other_species, strained)}
    assert len(keys) == 3
    assert label_key(configuration, "a" * 12) != label_key(configuration, "b" * 12)
    assert len(label_key(configuration, "a" * 12)) == 24


def test_a_rotated_crystal_is_another_calculation() -> None:
    configuration = random_configuration(3)
    quarter = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    rotated = Configuration(configuration.numbers, configuration.positions @ quarter, CELL @ quarter)
    assert configuration_key(rotated) != configuration_key(configuration)


@pytest.mark.parametrize("repetitions", [2, 3, 4, 5])
def test_perfect_crystals_survive_round_off(repetitions: int) -> None:
    """Positions on simple fractions, written to a file with 8 decimals and read back, keep their key."""
    from ase.build import bulk

    crystal = bulk("NaCl", "rocksalt", 5.64) * (repetitions, repetitions, 1)
    exact = Configuration(crystal.numbers.astype(np.int64), crystal.positions, crystal.cell.array)
    for shift in (0.0, 0.1, 1 / 3, 0.7071):
        rounded = Configuration(exact.numbers, np.round(exact.positions + shift, 12), exact.cell)
        assert configuration_key(rounded) == configuration_key(exact)


def test_symmetric_origins_give_forces_of_the_right_atoms() -> None:
    """In a crystal where many origins are equal, forces still go to an equivalent atom."""
    from ase.build import bulk

    crystal = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    positions = crystal.positions.copy()
    positions[0] += [0.05, 0.0, 0.0]
    configuration = Configuration(crystal.numbers.astype(np.int64), positions, crystal.cell.array)
    label = label_of(configuration)
    order = np.random.default_rng(0).permutation(8)
    shifted = Configuration(configuration.numbers[order], positions[order] + 0.3, configuration.cell)
    np.testing.assert_array_equal(aligned(label, shifted).forces, label.forces[order])


def test_another_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="another configuration"):
        aligned(label_of(random_configuration(1)), random_configuration(2))
