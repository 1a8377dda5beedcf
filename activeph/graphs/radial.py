"""Radial functions of all pairs of a table."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from activeph.graphs.pairs import Array

SMALLEST = 1e-3  # Å; closer pairs count as that far apart, where the functions have long reached their limits


def radial_functions(squares: Array, cutoff: float, n: int) -> Iterator[Array]:
    """Yield sin(kπd/r_c)/d times a cosine cutoff, k = 1..``n`` (DimeNet's basis, arXiv:2003.03123), as ``squares`` d².

    From the cutoff on they are exactly zero. sin((k+1)x) = 2 cos(x) sin(kx) - sin((k-1)x), so that one sine and one
    cosine make all. What was yielded is overwritten when the second next is asked for.
    """
    distances = np.sqrt(np.clip(squares, SMALLEST**2, cutoff**2))
    angles = distances * (math.pi / cutoff)
    twice = np.cos(angles)
    twice *= 2
    current = np.sin(angles, out=angles)
    current *= (0.25 * twice + 0.5) / distances
    current *= squares < cutoff**2
    previous = np.zeros_like(current)
    for _ in range(n):
        yield current
        following = np.subtract(twice * current, previous, out=previous)
        previous, current = current, following
