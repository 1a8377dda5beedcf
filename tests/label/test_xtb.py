from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from activeph.errors import InputError, LabelFailed
from activeph.label.xtb import XtbLabeler
from activeph.records import Configuration

LABELER = XtbLabeler()


def potassium_bromide(seed: int = 0, amplitude: float = 0.1) -> Configuration:
    crystal = bulk("KBr", "rocksalt", 6.775) * (2, 1, 1)
    positions = crystal.positions + np.random.default_rng(seed).normal(scale=amplitude, size=(4, 3))
    return Configuration(crystal.numbers.astype(np.int64), positions, crystal.cell.array)


def energy_of(configuration: Configuration, tmp_path: Path) -> float:
    return XtbLabeler(accuracy=0.01).label(configuration, tmp_path).energy


def test_forces_are_minus_the_gradient(tmp_path: Path) -> None:
    configuration = potassium_bromide()
    forces = XtbLabeler(accuracy=0.01).label(configuration, tmp_path).forces
    for atom, axis in ((0, 0), (3, 2)):
        energies = []
        for sign in (1, -1):
            positions = configuration.positions.copy()
            positions[atom, axis] += sign * 0.005
            energies.append(energy_of(Configuration(configuration.numbers, positions, configuration.cell), tmp_path))
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 0.01, abs=2e-3)


def test_stress_is_the_derivative_by_strain(tmp_path: Path) -> None:
    """Sign and unit: positive under tension, eV/Å³."""
    configuration = potassium_bromide()
    stress = XtbLabeler(accuracy=0.01).label(configuration, tmp_path).stress
    for component, (row, column) in ((0, (0, 0)), (3, (1, 2))):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[row, column] += sign * 0.002 / 2
            strain[column, row] += sign * 0.002 / 2
            strained = Configuration(
                configuration.numbers, configuration.positions @ strain, configuration.cell @ strain
            )
            energies.append(energy_of(strained, tmp_path))
        volume = abs(np.linalg.det(configuration.cell))
        assert stress[component] == pytest.approx((energies[0] - energies[1]) / 0.004 / volume, rel=0.05, abs=1e-4)


def test_agrees_with_the_code_behind_ase(tmp_path: Path) -> None:
    from ase import Atoms
    from tblite.ase import TBLite

    configuration = potassium_bromide(3)
    label = LABELER.label(configuration, tmp_path)
    atoms = Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(label.stress, atoms.get_stress(), atol=1e-12)


def test_bands_and_provenance(tmp_path: Path) -> None:
    label = LABELER.label(potassium_bromide(), tmp_path)
    assert label.occupations.sum() == pytest.approx(16.0)  # K: 1 valence electron, Br: 7
    assert label.eigenvalues.shape == label.occupations.shape == (1, 1, label.eigenvalues.shape[2])
    assert label.band_gap == label.direct_band_gap > 1.0
    assert label.conduction_band_minimum - label.valence_band_maximum == pytest.approx(label.band_gap)
    assert label.provenance["code"] == "tblite"
    assert label.provenance["fingerprint"] == LABELER.fingerprint
    log = (tmp_path / "scf.log").read_text()
    assert f"\n{label.provenance['scf_iterations']:7d} " in log
    assert f"\n{label.provenance['scf_iterations'] + 1:7d} " not in log


def test_unconverged_is_not_a_label(tmp_path: Path) -> None:
    with pytest.raises(LabelFailed, match="not converged") as caught:
        XtbLabeler(max_iterations=2).label(potassium_bromide(), tmp_path)
    assert caught.value.kind == "unconverged"
    assert "cycle" in (tmp_path / "scf.log").read_text()


def test_elements_without_parameters_are_named() -> None:
    with pytest.raises(InputError, match="up to radon but got U"):
        LABELER.check(Configuration(np.array([92, 8]), np.zeros((2, 3)), np.eye(3) * 5))


@pytest.mark.parametrize("change", [{"accuracy": 0.1}, {"max_iterations": 300}, {"electronic_temperature": 500.0}])
def test_every_setting_changes_the_fingerprint(change: dict[str, float]) -> None:
    assert XtbLabeler.model_validate(change).fingerprint != LABELER.fingerprint


def test_gfn1_gives_bands_but_neither_forces_nor_stress(tmp_path: Path) -> None:
    label = XtbLabeler(method="GFN1-xTB").label(potassium_bromide(), tmp_path)
    other = LABELER.label(potassium_bromide(), tmp_path)
    assert label.band_gap > 0
    assert abs(label.band_gap - other.band_gap) > 1e-3
    assert np.isfinite(label.energy)
    assert np.isnan(label.forces).all()
    assert np.isnan(label.stress).all()
    assert label.provenance["settings"]["method"] == "GFN1-xTB"
    assert XtbLabeler(method="GFN1-xTB").fingerprint != LABELER.fingerprint
