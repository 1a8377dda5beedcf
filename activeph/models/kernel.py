"""The covariance of functions of grouped inputs, and random functions that have it.

For every group of inputs amplitude² (1 + inner product), plus amplitude² times a squared exponential of the distance;
three logarithms each: amplitude of the linear part, amplitude and length of the smooth one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray

N_WAVES = 256  # random cosines that stand for a draw from the smooth kernel


def kernel(first: FloatArray, second: FloatArray, groups: tuple[int, ...], parameters: FloatArray) -> FloatArray:
    """Return the covariance [n1, n2] of inputs [n1, m] and [n2, m]."""
    linear, smooth = parts(geometry_of(first, second, groups), parameters)
    return np.asarray((linear + smooth).sum(axis=0))


def prior_draw(inputs: FloatArray, groups: tuple[int, ...], parameters: FloatArray, seed: int) -> FloatArray:
    """Return a random function [S] with the kernel as covariance: random planes plus random cosines."""
    rng = np.random.Generator(np.random.SFC64([seed, 1]))
    total = np.zeros(len(inputs))
    for own, (linear, smooth, length) in by_group(inputs, groups, parameters):
        n_inputs = own.shape[1]
        level, plane = rng.normal(), rng.normal(size=n_inputs) / np.sqrt(n_inputs)
        waves = rng.normal(size=(n_inputs, N_WAVES)) / (np.exp(length) * np.sqrt(n_inputs))
        heights = np.exp(smooth) * np.sqrt(2 / N_WAVES) * rng.normal(size=N_WAVES)
        phases = rng.uniform(0, 2 * np.pi, size=N_WAVES)
        total += np.exp(linear) * (level + own @ plane) + np.cos(own @ waves + phases) @ heights
    return total


@dataclass(frozen=True, eq=False)
class Geometry:
    """How inputs lie to one another, group by group."""

    inner: FloatArray  # [G, n1, n2] per column
    squares: FloatArray  # [G, n1, n2] of distances, per column


def geometry_of(first: FloatArray, second: FloatArray, groups: tuple[int, ...]) -> Geometry:
    """Return the geometry of inputs [n1, m] and [n2, m]."""
    inner, squares = [], []
    for number, size in enumerate(groups):
        columns = slice(sum(groups[:number]), sum(groups[: number + 1]))
        one, other = first[:, columns], second[:, columns]
        inner.append(one @ other.T / size)
        norms = np.sum(one**2, axis=1)[:, None] + np.sum(other**2, axis=1)
        squares.append(np.maximum(norms / size - 2 * inner[-1], 0))
    return Geometry(np.array(inner), np.array(squares))


def by_group(
    inputs: FloatArray, groups: tuple[int, ...], parameters: FloatArray
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the columns of each group with its parameters."""
    for number, size in enumerate(groups):
        first = sum(groups[:number])
        yield inputs[:, first : first + size], parameters[3 * number : 3 * number + 3]


def parts(geometry: Geometry, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return linear and smooth covariances [G, n1, n2] of each group."""
    linear, smooth, length = parameters[:-1].reshape(-1, 3).T[:, :, None, None]
    return (
        np.exp(2 * linear) * (1 + geometry.inner),
        np.exp(2 * smooth - 0.5 * geometry.squares * np.exp(-2 * length)),
    )
