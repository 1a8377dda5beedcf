import importlib.metadata
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from activeph.errors import InputError, LabelFailed
from activeph.label.ase_calculator import AseLabeler, _package_version
from activeph.records import Configuration

COPPER = bulk("Cu", "fcc", 3.7, cubic=True)
COPPER.positions[0] += 0.1
CONFIGURATION = Configuration(COPPER.numbers.astype(np.int64), COPPER.positions, COPPER.cell.array)


class Bands(Calculator):
    """A calculator with ASE's methods for bands: two k-points of unequal weight, occupations times weight or not."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, weighted: bool = False, converged: bool = True, error: str | None = None) -> None:
        super().__init__()
        self.weighted, self.converged, self.error = weighted, converged, error

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if self.error:
            raise CalculationFailed(self.error)
        self.results = {"energy": -1.0, "forces": np.zeros((len(atoms), 3))}

    def get_k_point_weights(self) -> np.ndarray:
        return np.array([0.25, 0.75])

    def get_number_of_spins(self) -> int:
        return 1

    def get_eigenvalues(self, kpt: int = 0, spin: int = 0) -> np.ndarray:
        return np.array([[-1.0, 0.0, 2.0], [-1.5, 0.5, 3.0]])[kpt]

    def get_occupation_numbers(self, kpt: int = 0, spin: int = 0) -> np.ndarray:
        return np.array([2.0, 2.0, 0.0]) * (self.get_k_point_weights()[kpt] if self.weighted else 1.0)


class Smeared(Bands):
    """A calculator whose energy is extrapolated, as those of electronic-structure codes are."""

    implemented_properties = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["free_energy"] = -1.25


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> str:
    import sys
    import types

    module = types.ModuleType("home_made")
    module.Bands = Bands  # type: ignore[attr-defined]
    module.Smeared = Smeared  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "home_made", module)
    return "home_made:Bands"


def test_the_energy_is_that_of_the_forces(importable: str, tmp_path: Path) -> None:
    assert AseLabeler(calculator="home_made:Bands").label(CONFIGURATION, tmp_path).energy == -1.0
    assert AseLabeler(calculator="home_made:Smeared").label(CONFIGURATION, tmp_path).energy == -1.25


def test_a_force_field_gives_the_same_numbers_as_ase(tmp_path: Path) -> None:
    from ase.calculators.emt import EMT

    label = AseLabeler(calculator="ase.calculators.emt:EMT").label(CONFIGURATION, tmp_path)
    atoms = COPPER.copy()
    atoms.calc = EMT()
    assert label.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(label.forces, atoms.get_forces())
    np.testing.assert_array_equal(label.stress, atoms.get_stress())
    assert math.isnan(label.band_gap)
    assert label.eigenvalues.shape == (0, 0, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_bands_are_read_in_either_convention(importable: str, tmp_path: Path, weighted: bool) -> None:
    label = AseLabeler(calculator=importable, arguments={"weighted": weighted}).label(CONFIGURATION, tmp_path)
    assert (label.valence_band_maximum, label.conduction_band_minimum) == (0.5, 2.0)
    assert label.direct_band_gap == 2.0
    np.testing.assert_allclose(label.occupations, [[[2, 2, 0], [2, 2, 0]]])
    assert np.isnan(label.stress).all()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"converged": False}, "unconverged"),
        ({"error": "SCF did not converge"}, "unconverged"),
        ({"error": "disk on fire"}, "crashed"),
    ],
)
def test_failures_keep_their_reason(importable: str, tmp_path: Path, arguments: dict[str, Any], kind: str) -> None:
    with pytest.raises(LabelFailed) as caught:
        AseLabeler(calculator=importable, arguments=arguments).label(CONFIGURATION, tmp_path)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calculator": "no_such_package:EMT"}, "must be the import path"),
        ({"calculator": "ase.calculators.emt:NoSuch"}, "must be the import path"),
        ({"calculator": "ase.calculators.emt.EMT", "arguments": {"nonsense": 1, "asap_cutoff": {}}}, None),
        ({"calculator": "ase.calculators.lj:LennardJones", "arguments": {"ro": object}}, None),
        ({"calculator": "ase.calculators.tip3p:TIP3P", "arguments": {"nonsense": 1}}, "label.arguments must suit"),
    ],
)
def test_check_makes_the_calculator(settings: dict[str, Any], message: str | None) -> None:
    labeler = AseLabeler.model_validate(settings)
    if message is None:
        labeler.check(CONFIGURATION)
    else:
        with pytest.raises(InputError, match=message):
            labeler.check(CONFIGURATION)


def test_arguments_change_the_fingerprint() -> None:
    plain = AseLabeler(calculator="ase.calculators.emt:EMT")
    assert (
        plain.fingerprint
        != AseLabeler(calculator="ase.calculators.emt:EMT", arguments={"asap_cutoff": True}).fingerprint
    )


@pytest.mark.parametrize("package", ["ase", "yaml", "numpy", "no_such_package"])
def test_the_version_is_that_of_the_package_that_is_imported(package: str) -> None:
    names = importlib.metadata.packages_distributions().get(package, [])
    assert _package_version(package) == (importlib.metadata.version(names[0]) if names else None)


def test_files_that_arguments_name_are_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model"
    by_word, by_path = (
        AseLabeler(calculator="ase.calculators.emt:EMT", arguments={"one": {"models": [name]}})
        for name in ("model", str(file))
    )
    before = by_word.fingerprint, by_path.fingerprint
    file.write_text("a model")
    assert by_word.fingerprint == before[0]  # a word may be a method or a basis set
    first = by_path.fingerprint
    file.write_text("another one")
    assert len({before[1], first, by_path.fingerprint}) == 3
