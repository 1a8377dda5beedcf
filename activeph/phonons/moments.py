"""What a set of labelled draws says of force constants and pair terms, summed by groups of draws.

With H the forces of unit force constants, X = (F, G) the labelled forces and those of unit pair terms, the sums HᵀH,
HᵀX and XᵀX hold everything that weighted fits, cross-validation and the jackknife need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activeph.phonons.fit import ForceConstantFit
from activeph.records import FloatArray

RIDGES = (1e-4, 1e-2, 1.0)  # of the mean square of the scaled columns
WORTH = 0.98  # pair terms are used where they leave less than this share of the error that force constants alone leave


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over draws; P force constants, Q pair terms."""

    hh: FloatArray  # [P, P]
    hx: FloatArray  # [P, 1 + Q]
    xx: FloatArray  # [1 + Q, 1 + Q]

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.hh + other.hh, self.hx + other.hx, self.xx + other.xx)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.hh - other.hh, self.hx - other.hx, self.xx - other.xx)

    def remainder(self, pairs: FloatArray) -> FloatArray:
        """Return HᵀR [P] of the forces R that pair terms of coefficients [Q] leave."""
        return np.asarray(self.hx @ np.concatenate([[1.0], -pairs]))

    def joint(self) -> tuple[FloatArray, FloatArray]:
        """Return A [P + Q, P + Q] and b [P + Q] of the fit of force constants and pair terms together."""
        matrix = np.block([[self.hh, self.hx[:, 1:]], [self.hx[:, 1:].T, self.xx[1:, 1:]]])
        return matrix, np.concatenate([self.hx[:, 0], self.xx[1:, 0]])


def grouped_moments(
    fit: ForceConstantFit, displacements: FloatArray, forces: FloatArray, weights: FloatArray, n_groups: int = 10
) -> list[Moments]:
    """Return the moments of consecutive groups of draws, about the weighted means of all draws.

    What pulls the sites elsewhere on average is no force constant, hence the means.

    Args:
        fit: the symmetric force constants.
        displacements: [S, N, 3] Å.
        forces: [S, N, 3, 1 + Q] eV/Å, the labelled ones first.
        weights: [S].
        n_groups: number of groups, fewer where there are fewer draws.
    """
    total = weights.sum()
    u = displacements - np.einsum("s,sni->ni", weights, displacements) / total
    x = forces - np.einsum("s,snix->nix", weights, forces) / total
    found = []
    for rows in (part for part in np.array_split(np.arange(len(weights)), n_groups) if len(part)):
        hh, hx = fit.normal_equations(u[rows], x[rows], weights[rows])
        flat = (x[rows] * np.sqrt(weights[rows])[:, None, None, None]).reshape(-1, x.shape[-1])
        found.append(Moments(hh, hx, flat.T @ flat))
    return found


def total_moments(groups: Sequence[Moments]) -> Moments:
    """Return the sum of all groups."""
    result = groups[0]
    for group in groups[1:]:
        result = result + group
    return result


def pair_coefficients(groups: Sequence[Moments]) -> tuple[FloatArray, list[FloatArray]]:
    """Return coefficients [Q] of the pair terms from all groups, and from all but each group in turn.

    The ridge is chosen by cross-validation over the groups; zeros where pair terms do not predict forces of draws
    left out clearly better than force constants alone do.
    """
    total = total_moments(groups)
    n_pairs = total.hx.shape[1] - 1
    zeros = np.zeros(n_pairs)
    if len(groups) < 2 or n_pairs == 0:
        return zeros, [zeros for _ in groups]
    alone = sum(_left_out_error(_solve(total - group, None), group) for group in groups)
    errors = [sum(_left_out_error(_solve(total - group, ridge), group) for group in groups) for ridge in RIDGES]
    best = int(np.argmin(errors))
    if not errors[best] < WORTH * alone:
        return zeros, [zeros for _ in groups]
    without = [_solve(total - group, RIDGES[best])[-n_pairs:] for group in groups]
    return _solve(total, RIDGES[best])[-n_pairs:], without


def explained(moments: Moments, pairs: FloatArray) -> float:
    """Return the share of the forces' variance that force constants hold together with pair terms of coefficients."""
    vector = moments.remainder(pairs)
    constants = np.linalg.lstsq(moments.hh, vector, rcond=1e-8)[0]
    signs = np.concatenate([[1.0], -pairs])
    left = signs @ moments.xx @ signs - 2 * constants @ vector + constants @ moments.hh @ constants
    return float(1 - left / moments.xx[0, 0]) if moments.xx[0, 0] > 0 else 1.0


def _solve(moments: Moments, ridge: float | None) -> FloatArray:
    """Return force constants and pair coefficients [P + Q]; without pair terms where ``ridge`` is None."""
    matrix, vector = moments.joint()
    n_constants = len(moments.hh)
    if ridge is None:
        constants = np.linalg.lstsq(moments.hh, moments.hx[:, 0], rcond=1e-8)[0]
        return np.concatenate([constants, np.zeros(len(vector) - n_constants)])
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    penalty = np.full(len(vector), ridge)
    penalty[:n_constants] = 1e-9
    return np.asarray(np.linalg.solve(matrix / np.outer(scale, scale) + np.diag(penalty), vector / scale) / scale)


def _left_out_error(solution: FloatArray, group: Moments) -> float:
    matrix, vector = group.joint()
    return float(group.xx[0, 0] - 2 * solution @ vector + solution @ matrix @ solution)
