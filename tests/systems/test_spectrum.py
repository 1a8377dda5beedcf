from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from activeph.errors import InputError
from activeph.phonons.fit import full_force_constants
from activeph.phonons.renormalise import Settings
from activeph.records import Configuration, Label, System
from activeph.systems import effective_spectra, plot_rounds, plot_spectra, renormalised, spectrum, write_rounds
from activeph.systems.load import phonopy_of

Builder = Callable[..., System]


@pytest.mark.parametrize("name", ["perovskite", "wurtzite", "triclinic"])
def test_bands_are_those_of_phonopy_and_the_density_counts_all_modes(crystal: Builder, name: str) -> None:
    system = crystal(name)
    found = spectrum(system, points=5, mesh=25.0)
    n_bands = 3 * len(system.primitive_atoms)
    assert all(band.shape == (5, n_bands) for band in found.bands)
    assert np.trapezoid(found.density, found.frequencies) == pytest.approx(n_bands, rel=0.06)
    gamma = next(i for i, (start, _) in enumerate(found.labels) if start == "G")
    np.testing.assert_allclose(np.sort(np.abs(found.bands[gamma][0]))[:3], 0, atol=1e-3)
    phonon = phonopy_of(system)
    phonon.run_qpoints([[0, 0, 0]])
    np.testing.assert_allclose(found.bands[gamma][0], phonon.qpoints.frequencies[0], atol=2e-3)


@pytest.mark.parametrize(
    ("name", "points"), [("slab", {"G", "M", "K"}), ("chain", {"G", "X"}), ("wurtzite", set("GMKALH"))]
)
def test_the_path_of_a_layer_or_chain_leaves_the_vacuum_out(crystal: Builder, name: str, points: set[str]) -> None:
    found = spectrum(crystal(name), points=3, mesh=10.0)
    assert {end for ends in found.labels for end in ends} == points
    assert all(np.ptp(distance) > 0.01 for distance in found.distances)


def test_polar_bands_split(crystal: Builder) -> None:
    plain = crystal("rocksalt")
    polar = dataclasses.replace(plain, born_charges=np.array([np.eye(3), -np.eye(3)]), dielectric=2.4 * np.eye(3))
    start = [i for i, (name, _) in enumerate(spectrum(plain, 3).labels) if name == "G"][0]
    without, with_charges = (spectrum(system, 3).bands[start][0] for system in (plain, polar))
    assert without[5] - without[4] < 1e-3
    assert with_charges[5] - with_charges[4] > 0.5  # longitudinal above transverse at Gamma


def test_pictures_are_written(crystal: Builder, tmp_path: Path) -> None:
    unstable, stable = crystal("perovskite", across=-0.35), crystal("perovskite")
    system = dataclasses.replace(unstable, effective_force_constants={300.0: stable.force_constants})
    spectra = effective_spectra(system)
    assert list(spectra) == ["harmonic", "300 K"]
    assert spectra["harmonic"].lowest < -0.5 < -0.01 < spectra["300 K"].lowest
    for ending in ("png", "svg"):
        plot_spectra(spectra, tmp_path / f"bands.{ending}")
        assert (tmp_path / f"bands.{ending}").stat().st_size > 10_000
    with pytest.raises(InputError, match="must have force constants for its phonons but got none"):
        spectrum(dataclasses.replace(stable, force_constants=None))


class Springs:
    """Labels a crystal by its springs; one calculation in ten fails."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.full = full_force_constants(system, system.force_constants)
        self.asked: list[Configuration] = []

    def __call__(self, batch: Sequence[Configuration]) -> list[Label | None]:
        self.asked += batch
        return [self._label(cell) if index % 10 else None for index, cell in enumerate(batch)]

    def _label(self, cell: Configuration) -> Label:
        u = cell.positions - self.system.supercell.positions
        forces = -np.einsum("ijxy,jy->ix", self.full, u)
        nothing = np.zeros((1, 1, 1))
        energy = float(-0.5 * np.sum(u * forces))
        return Label(cell, energy, forces, np.zeros(6), 1.0, 1.0, 0.0, 1.0, nothing, nothing)


def test_labels_renormalise_a_system_at_each_temperature(crystal: Builder, tmp_path: Path) -> None:
    truth, unstable = crystal("perovskite"), crystal("perovskite", across=-0.35)
    springs, seen = Springs(truth), []
    settings = Settings(draws=8, max_rounds=12)
    found, rounds = renormalised(
        unstable, [300.0, 600.0], springs, settings, seed=1, watch=lambda T, result: seen.append((T, result.number))
    )
    assert list(found.effective_force_constants) == [300.0, 600.0]
    for constants in found.effective_force_constants.values():
        np.testing.assert_allclose(constants, truth.force_constants, atol=1e-3)
    assert [T for T, _ in seen] == [300.0] * len(rounds[300.0]) + [600.0] * len(rounds[600.0])
    again = Springs(truth)
    renormalised(unstable, [300.0, 600.0], again, settings, seed=1)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(springs.asked, again.asked, strict=True))
    write_rounds(rounds, tmp_path / "rounds.csv")
    with (tmp_path / "rounds.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(seen)
    assert float(table[-1]["lowest frequency (THz)"]) == rounds[600.0][-1].frequencies[0]
    plot_rounds(rounds, tmp_path / "rounds.png")
    assert (tmp_path / "rounds.png").stat().st_size > 10_000


def test_no_convergence_and_no_labels_get_a_sentence(crystal: Builder) -> None:
    truth, unstable = crystal("perovskite"), crystal("perovskite", across=-0.35)
    with pytest.raises(InputError, match="must converge but got, after 7 labels, a lowest frequency of"):
        renormalised(unstable, [300.0], Springs(truth), Settings(draws=8, max_rounds=1))
    with pytest.raises(InputError, match="must have labels but got none"):
        renormalised(unstable, [300.0], lambda batch: [None] * len(batch), Settings(draws=2))

    def without_forces(batch: Sequence[Configuration]) -> list[Label | None]:
        return [dataclasses.replace(Springs(truth)._label(cell), forces=cell.positions * np.nan) for cell in batch]

    with pytest.raises(InputError, match="must be made of finite forces but got labels without; take a labeler"):
        renormalised(unstable, [300.0], without_forces, Settings(draws=2))
