"""The cell of least free energy where the shape follows too: F(V, y, T) = E(V, y) + F_vib(V, y, T).

Changes of shape y_k at constant volume multiply the cell by exp(Σ y_k B_k), with B_k symmetric, traceless and left
alone by the crystal's rotations. F is a polynomial fitted to cells of several volumes and shapes, along V the
third-order Birch-Murnaghan equation. Internal coordinates follow the cell at rest: the zero static internal stress
approximation, exact to first order for the cell (N. L. Allan, T. H. K. Barron, J. A. O. Bruno, J. Chem. Phys. 105,
8300 (1996)); few distorted cells suffice (S. Rostami, M. Giantomassi, X. Gonze, npj Comput. Mater. 11 (2025)).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from activeph.errors import InputError
from activeph.phonons.quasi_harmonic import GPA, CellSeries, Equilibrium
from activeph.records import FloatArray, IntArray

_EDGE = 1e-6  # of the range of a coordinate: what lies nearer to its end is called outside
_SAME = 1e-5  # relative; volumes that differ less are one, shapes smaller than this are none


def chosen_cells(
    n_shapes: int, strains: tuple[float, ...], distortions: tuple[float, ...]
) -> list[tuple[float, FloatArray]]:
    """Return the cells [strain of all lengths, shape y [K]] that determine F.

    Every strain in the given shape; at a middle strain each distortion and the largest ones in pairs, at the smallest
    and the largest strain the two smallest distortions.
    """
    cells = [(strain, np.zeros(n_shapes)) for strain in strains]
    places = np.unique(np.rint(np.linspace(0, len(strains) - 1, 3)).astype(int))
    unit, ordered = np.eye(n_shapes), sorted(distortions, key=abs)
    middle, largest = strains[places[len(places) // 2]], ordered[-1]
    for strain in (strains[i] for i in places):
        chosen = ordered if strain == middle else ordered[:2]
        cells += [(strain, y * unit[k]) for k in range(n_shapes) for y in chosen]
    return cells + [
        (middle, largest * (unit[k] + unit[other])) for k, other in itertools.combinations(range(n_shapes), 2)
    ]


@dataclass(frozen=True, eq=False)
class ShapeSeries(CellSeries):
    """One crystal in cells of several volumes and shapes."""

    shapes: FloatArray = field(kw_only=True)  # [V, K]

    def equilibrium(self, temperature: float) -> Equilibrium | None:
        """Return where F is least at a temperature in K; None where that is not between the stable cells.

        Raises:
            InputError: the stable cells do not determine F.
        """
        fitted = self._fitted(temperature)
        place = self._least(fitted)
        if self._outside(place):
            return None
        hessian = self._hessian(fitted, place)
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            return None
        # the shape yields under pressure: curvature along the volume of the least F at each volume
        curvature = hessian[0, 0] - hessian[0, 1:] @ np.linalg.solve(hessian[1:, 1:], hessian[1:, 0])
        x = 1 + place[0]
        volume = float(self._unit * x**-1.5)
        errors = self._design(self._places) @ fitted - self.free_energies(temperature)
        return Equilibrium(
            temperature=temperature,
            volume=volume,
            free_energy=float(self._design(place[None])[0] @ fitted),
            bulk_modulus=float(4 / 9 * x**2 * curvature / volume * GPA),  # see VolumeSeries
            misfit=float(np.sqrt(np.mean(errors**2))),
            shape=tuple(float(y) for y in place[1:]),
        )

    def weights(self, found: Equilibrium) -> FloatArray:
        """Return the weight [S] of each stable cell in what is interpolated to an equilibrium."""
        row = self._design(np.array([[(self._unit / found.volume) ** (2 / 3) - 1, *found.shape]]))[0]
        return np.asarray(row @ self._solution)

    def free_energy_curve(self, temperature: float, volumes: FloatArray) -> FloatArray:
        """Return the fitted F in eV at any volumes [n], least over the shapes, for pictures."""
        fitted = self._fitted(temperature)
        places = [self._least(fitted, (self._unit / volume) ** (2 / 3) - 1) for volume in volumes]
        return np.asarray(self._design(np.array(places)) @ fitted)

    def escaping(self, temperature: float) -> str:
        """Return in which direction F falls beyond the stable cells, in words: larger or smaller strains, or shapes."""
        low, high = self._bounds
        place = self._least(self._fitted(temperature))
        near = np.minimum(place - low, high - place) / (high - low)
        if near[1:].min() < near[0]:
            return "larger distortions"
        return "smaller strains" if high[0] - place[0] < place[0] - low[0] else "larger strains"

    @cached_property
    def _unit(self) -> float:
        """Å³, the volume at which the first coordinate vanishes."""
        return float(self.volumes[self.stable].mean())

    @cached_property
    def _places(self) -> FloatArray:
        """Coordinates [S, 1 + K] of the stable cells: (unit/V)^(2/3) - 1, and the shape."""
        first = (self._unit / self.volumes[self.stable]) ** (2 / 3) - 1
        return np.column_stack([first, self.shapes[self.stable]])

    @cached_property
    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        return self._places.min(axis=0), self._places.max(axis=0)

    @cached_property
    def _scale(self) -> FloatArray:
        return np.asarray(np.abs(self._places).max(axis=0))

    @cached_property
    def _exponents(self) -> IntArray:
        """Powers [T, 1 + K] of the terms, as many as the stable cells determine."""
        places = self._places
        n_shapes = places.shape[1] - 1
        terms = [(power, *[0] * n_shapes) for power in range(4)]
        for k in range(n_shapes):
            alone = self._alone(k)
            n_volumes = _different(places[alone, 0])
            powers = [(1, min(2, n_volumes - 1)), (2, min(1, n_volumes - 1)), (3, 0), (4, 0)]
            powers = powers[: _different(places[alone, 1 + k])]
            for power, highest in powers:
                terms += [(j, *(power if i == k else 0 for i in range(n_shapes))) for j in range(highest + 1)]
        for pair in itertools.combinations(range(n_shapes), 2):
            terms.append((0, *(int(i in pair) for i in range(n_shapes))))
        return np.array(terms)

    def _alone(self, k: int) -> NDArray[np.bool_]:
        """Return which stable cells [S] have one kind of distortion and no other."""
        bent = np.abs(self._places[:, 1:]) > _SAME
        return np.asarray(bent[:, k] & (bent.sum(axis=1) == 1))

    def _design(self, places: FloatArray) -> FloatArray:
        """Return the terms [n, T] at places [n, 1 + K]."""
        return np.asarray(np.prod((places / self._scale)[:, None] ** self._exponents, axis=2))

    def _fitted(self, temperature: float) -> FloatArray:
        """Return the coefficients [T] of F in eV."""
        return np.asarray(self._solution @ self.free_energies(temperature))

    @cached_property
    def _solution(self) -> FloatArray:
        """Matrix [T, S] from values in the stable cells to coefficients, by least squares in two steps.

        Terms of the volume come from the cells in the given shape, those of the shapes from what distortions add to
        the cell of the same volume: what the equation of state misses must not bend the shapes.
        """
        places = self._places
        kept = np.abs(places[:, 1:]).max(axis=1) < _SAME
        of_volume = self._exponents[:, 1:].sum(axis=1) == 0
        kinds = range(places.shape[1] - 1)
        enough = _different(places[kept, 0]) >= 4 and all(_different(places[self._alone(k), 1 + k]) >= 2 for k in kinds)
        design = self._design(places)
        shapes = design[np.ix_(~kept, ~of_volume)]
        if not enough or np.linalg.matrix_rank(shapes, tol=1e-6) < shapes.shape[1]:
            raise InputError(
                f"a quasi-harmonic cell of free shape must have at least 4 volumes in the given shape, and two or more "
                f"distortions of each kind and pair, all without imaginary modes, but got {len(self.stable)} cells of "
                f"{len(self.volumes)}; take other strains and smaller distortions, or `shape: kept`"
            )
        solution = np.zeros((design.shape[1], len(places)))
        solution[np.ix_(of_volume, kept)] = np.linalg.pinv(design[np.ix_(kept, of_volume)])
        added = np.eye(len(places)) - design[:, of_volume] @ solution[of_volume]
        for row in np.flatnonzero(~kept):
            apart = np.where(kept, np.abs(places[:, 0] - places[row, 0]), np.inf)
            if apart.min() < _SAME:  # else the fitted curve stands for the cell in the given shape
                added[row] = np.eye(len(places))[row] - np.eye(len(places))[apart.argmin()]
        solution[~of_volume] = np.linalg.pinv(shapes) @ added[~kept]
        return solution

    def _gradient(self, fitted: FloatArray, place: FloatArray) -> FloatArray:
        return np.array([self._derivative((i,), place) @ fitted for i in range(len(place))])

    def _hessian(self, fitted: FloatArray, place: FloatArray) -> FloatArray:
        n = range(len(place))
        return np.array([[self._derivative((i, j), place) @ fitted for j in n] for i in n])

    def _derivative(self, directions: tuple[int, ...], place: FloatArray) -> FloatArray:
        """Return a partial derivative [T] of all terms."""
        exponents, factors = self._exponents.copy(), np.ones(len(self._exponents))
        for i in directions:
            factors *= exponents[:, i] / self._scale[i]
            exponents[:, i] = np.maximum(exponents[:, i] - 1, 0)
        return np.asarray(factors * np.prod((place / self._scale) ** exponents, axis=1))

    def _least(self, fitted: FloatArray, first: float | None = None) -> FloatArray:
        """Return the place [1 + K] of least F within the range of the cells, at a given first coordinate or any."""
        from scipy.optimize import minimize

        low, high = self._bounds
        unit = float(np.ptp(self._design(self._places) @ fitted)) or 1.0
        fixed = slice(0, 1) if first is not None else slice(0, 0)
        values = self._design(self._places) @ fitted
        start = self._places[values.argmin()].copy()
        limits = list(zip(low / self._scale, high / self._scale, strict=True))
        if first is not None:
            start[0], limits[0] = first, (first / self._scale[0],) * 2

        def value_and_slope(scaled: FloatArray) -> tuple[float, FloatArray]:
            place = scaled * self._scale
            slope = self._gradient(fitted, place) * self._scale
            return float(self._design(place[None])[0] @ fitted) / unit, slope / unit

        found = minimize(value_and_slope, start / self._scale, jac=True, method="L-BFGS-B", bounds=limits, tol=1e-15)
        place = np.asarray(found.x * self._scale)
        if first is None and not self._outside(place):
            for _ in range(4):  # Newton: to the last digits
                place = place - np.linalg.solve(self._hessian(fitted, place), self._gradient(fitted, place))
        place[fixed] = first if first is not None else place[fixed]
        return place

    def _outside(self, place: FloatArray) -> bool:
        low, high = self._bounds
        return bool((np.minimum(place - low, high - place) / (high - low) < _EDGE).any())


def _different(values: FloatArray) -> int:
    """Return how many different values there are."""
    ordered = np.sort(values)
    return int(len(ordered) > 0) + int(np.count_nonzero(np.diff(ordered) > _SAME))
