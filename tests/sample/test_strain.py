from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from activeph.phonons.units import BOLTZMANN
from activeph.records import System
from activeph.sample.phonon import PhononSampler

Builder = Callable[..., System]


def _strains(system: System, n: int = 4000, **keys: object) -> tuple[np.ndarray, np.ndarray]:
    block = PhononSampler(statistics="classical", minimum_distance=0.0, **keys).pool(system, n, 1).block(0, n)
    return np.linalg.inv(system.supercell.cell) @ block.cells - np.eye(3), block.temperatures


def test_expansion_is_linear_in_temperature(crystal: Builder) -> None:
    strains, temperatures = _strains(crystal("perovskite"), temperatures=(0.0, 300.0), expansion=2e-5)
    np.testing.assert_allclose(strains, (2e-5 * temperatures)[:, None, None] * np.eye(3), atol=1e-12)


def test_fluctuations_obey_equipartition(crystal: Builder) -> None:
    system = crystal("perovskite")
    bulk, shear, T = 120.0, 60.0, 400.0
    strains, _ = _strains(system, 20_000, temperatures=(T,), bulk_modulus=bulk, shear_modulus=shear)
    volume = np.linalg.det(system.supercell.cell)
    trace = np.trace(strains, axis1=1, axis2=2)
    deviator = strains - trace[:, None, None] * np.eye(3) / 3
    half_kt = BOLTZMANN * T / 2
    per_gpa = volume / 160.21766208
    assert np.mean(0.5 * bulk * per_gpa * trace**2) == pytest.approx(half_kt, rel=0.04)
    assert np.mean(shear * per_gpa * np.sum(deviator**2, axis=(1, 2))) == pytest.approx(5 * half_kt, rel=0.03)
    np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=1e-15)


def test_keys_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="renormalised force constants or a quasi-harmonic cell but not both"):
        PhononSampler(expansion="quasi-harmonic", imaginary="renormalise")
    with pytest.raises(ValidationError, match="bulk_modulus and shear_modulus together"):
        PhononSampler(temperatures=(300.0,), bulk_modulus=100.0)
