from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from activeph.errors import InputError
from activeph.phonons.free_shape import ShapeSeries, chosen_cells
from activeph.phonons.units import BOLTZMANN

V0, T = 120.0, 400.0
STRAINS, DISTORTIONS = (-0.01, 0.0, 0.01, 0.02, 0.03), (-0.01, 0.01, 0.02)


def _energy(volume: float, shape: np.ndarray) -> float:
    """A crystal whose best shape depends on the volume, soft in the first shape, shapes coupled; eV."""
    x = (V0 / volume) ** (2 / 3) - 1
    stiff = np.array([[250.0, 60.0], [60.0, 400.0]])[: len(shape), : len(shape)]
    pull = np.array([9.0, -4.0])[: len(shape)]
    return 0.06 * float(110 * x**2 + 300 * x**3 + x * pull @ shape + 0.5 * (1 + 4 * x) * shape @ stiff @ shape)


def _logarithms(volume: float, shape: np.ndarray) -> np.ndarray:
    """ln of three frequencies (THz): Grüneisen parameters of volume and shapes."""
    gamma = np.array([[2.1, 0.9, -0.7], [1.4, -2.0, 0.3], [0.6, 0.4, 1.1]])[:, : 1 + len(shape)]
    return np.log([3.0, 5.0, 8.0]) - gamma @ np.array([np.log(volume / V0), *shape])


def _series(n_shapes: int, distortions: tuple[float, ...] = DISTORTIONS, soft: int = -1) -> ShapeSeries:
    cells = chosen_cells(n_shapes, STRAINS, distortions)
    volumes = np.array([V0 * (1 + strain) ** 3 for strain, _ in cells])
    shapes = np.array([shape for _, shape in cells])
    energies = np.array([_energy(v, y) for v, y in zip(volumes, shapes, strict=True)])
    frequencies = [np.exp(_logarithms(v, y)) for v, y in zip(volumes, shapes, strict=True)]
    if soft >= 0:
        frequencies[soft] = np.array([-1.0, 5.0, 8.0])
    return ShapeSeries(volumes, energies, frequencies, "classical", shapes=shapes)


@pytest.mark.parametrize("n_shapes", [1, 2])
def test_the_cell_is_that_of_direct_minimisation(n_shapes: int) -> None:
    def free_energy(place: np.ndarray) -> float:
        volume, shape = V0 * (1 + place[0]) ** 3, place[1:]
        return _energy(volume, shape) + BOLTZMANN * T * float(_logarithms(volume, shape).sum())

    true = minimize(free_energy, np.zeros(1 + n_shapes), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    found = _series(n_shapes).equilibrium(T)
    assert found is not None
    place = [(found.volume / V0) ** (1 / 3) - 1, *found.shape]
    assert np.abs(true.x).min() > 3e-4  # it does expand, in every way
    np.testing.assert_allclose(place, true.x, atol=5e-6)
    assert found.misfit < 1e-5
    # the modulus under pressure: all shapes follow
    step = 1e-3
    energies = [
        minimize(lambda y, v=v: free_energy(np.array([(v / V0) ** (1 / 3) - 1, *y])), found.shape, tol=1e-12).fun
        for v in found.volume * (1 + step * np.arange(-1, 2))
    ]
    bulk = (energies[0] - 2 * energies[1] + energies[2]) / (step**2 * found.volume) * 160.21766208
    assert found.bulk_modulus == pytest.approx(bulk, rel=5e-3)


def test_interpolation_weights_return_what_the_polynomial_holds() -> None:
    series = _series(2)
    found = series.equilibrium(T)
    assert found is not None
    x = (series.volumes / V0) ** (-2 / 3)
    values = 3 + 2 * x + x**3 + 4 * series.shapes[:, 0] * x - series.shapes[:, 0] * series.shapes[:, 1]
    at = (found.volume / V0) ** (-2 / 3)
    expected = 3 + 2 * at + at**3 + 4 * found.shape[0] * at - found.shape[0] * found.shape[1]
    assert series.weights(found) @ values[series.stable] == pytest.approx(expected, abs=1e-9)


def test_the_curve_touches_the_minimum() -> None:
    series = _series(1)
    found = series.equilibrium(T)
    assert found is not None
    curve = series.free_energy_curve(T, found.volume * np.array([0.99, 1.0, 1.01]))
    assert curve[1] == pytest.approx(found.free_energy, abs=1e-9)
    assert min(curve[0], curve[2]) > curve[1]


def test_shapes_beyond_the_distortions_are_not_extrapolated() -> None:
    series = _series(1, (-0.0004, 0.0004))
    assert series.equilibrium(T) is None
    assert series.escaping(T) == "larger distortions"


def test_cells_that_leave_the_shape_open_are_refused() -> None:
    series = _series(1)
    alone = np.abs(series.shapes[:, 0]) < 1e-12
    few = ShapeSeries(
        series.volumes[alone],
        series.energies[alone],
        [one for one, kept in zip(series.frequencies, alone, strict=True) if kept],
        "classical",
        shapes=series.shapes[alone],
    )
    with pytest.raises(InputError, match="two or more distortions of each kind .* but got 5 cells of 5"):
        few.equilibrium(T)


def test_an_unstable_distorted_cell_is_left_out() -> None:
    series, whole = _series(1, soft=5), _series(1)
    found, known = series.equilibrium(T), whole.equilibrium(T)
    assert found is not None
    assert known is not None
    assert len(series.stable) == len(whole.stable) - 1
    np.testing.assert_allclose(found.shape, known.shape, atol=3e-5)
