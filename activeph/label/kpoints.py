"""Meshes of k-points that contain Gamma."""

from __future__ import annotations

import itertools

import numpy as np

from activeph.records import FloatArray


def gamma_centred(divisions: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """Return fractional k-points [n, 3] and weights [n] (sum 1) of a mesh, one of each pair k and -k."""
    weights: dict[tuple[int, int, int], int] = {}
    for index in itertools.product(*(range(n) for n in divisions)):
        opposite = (-index[0] % divisions[0], -index[1] % divisions[1], -index[2] % divisions[2])
        key = min((index[0], index[1], index[2]), opposite)
        weights[key] = weights.get(key, 0) + 1
    points = np.array(list(weights), dtype=np.float64) / np.array(divisions)
    return points, np.array(list(weights.values()), dtype=np.float64) / np.prod(divisions)
