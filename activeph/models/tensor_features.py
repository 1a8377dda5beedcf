"""Second-rank tensors of a crystal's surroundings that turn with it: what its stress is a linear function of.

The stress of a pair potential is (1/V) Σ_pairs f(d) r̂ ⊗ r̂, so with f expanded in radial functions it is linear in the
sums of r̂ ⊗ r̂ R_n(d), with the same coefficients for all six components. Products of two moments of one atom's
surroundings (:mod:`activeph.graphs.moments`), coupled to a tensor or to a scalar, add what three and more bodies do
(cf. the atomic cluster expansion, R. Drautz, Phys. Rev. B 99, 014104).

Tensors are held as six numbers: five traceless ones in an orthonormal basis, then trace / √3; the sum of their squares
is that of the nine Cartesian components.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from activeph.errors import InputError
from activeph.records import Block, FloatArray, IntArray, System

if TYPE_CHECKING:
    from torch import Tensor

CUTOFF = 6.0  # Å
N_RADIAL = 8  # radial functions of pairs
N_LOW = 4  # of them in products: the smooth ones
PAIRS, ISOTROPIC_PAIRS, PRODUCTS, ISOTROPIC_PRODUCTS = range(4)  # groups of features with an amplitude each
N_GROUPS = 4

_ROOT = np.sqrt(0.5)
TRACELESS = np.zeros((5, 3, 3))  # orthonormal; xy, yz, xz, x² - y², 3 z² - 1 as in activeph.graphs.moments
for _k, (_i, _j) in enumerate(((0, 1), (1, 2), (0, 2))):
    TRACELESS[_k, _i, _j] = TRACELESS[_k, _j, _i] = _ROOT
TRACELESS[3] = np.diag([_ROOT, -_ROOT, 0.0])
TRACELESS[4] = np.diag([-1.0, -1.0, 2.0]) / np.sqrt(6)
_BASIS = np.concatenate([TRACELESS, np.eye(3)[None] / np.sqrt(3)])  # [6, 3, 3]
_PLACES = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])  # xx, yy, zz, yz, xz, xy
TO_COMPONENTS = _BASIS[:, _PLACES[0], _PLACES[1]].T  # [xx ... xy, 6]
FROM_COMPONENTS = np.linalg.inv(TO_COMPONENTS)
_PRODUCTS_OF_TENSORS = np.einsum("kxy,syz,tzx->kst", TRACELESS, TRACELESS, TRACELESS)
_PRODUCTS_OF_TENSORS = (_PRODUCTS_OF_TENSORS + _PRODUCTS_OF_TENSORS.transpose(0, 2, 1)) / 2


class TensorFeatures:
    """Features of configurations of some elements. ``centre`` [Z, Z n] are typical l = 0 moments per element."""

    def __init__(self, systems: Mapping[str, System], elements: IntArray, centre: FloatArray | None = None) -> None:
        from activeph.graphs.neighbours import NeighbourFinder

        self.elements = elements
        self._finder = NeighbourFinder(systems, CUTOFF)
        self.centre = np.zeros((len(elements), len(elements) * N_RADIAL)) if centre is None else centre

    @property
    def groups(self) -> IntArray:
        """Return the group of every feature [F]."""
        n = len(self.elements)
        n_pairs, n_low = n * n * N_RADIAL, n * N_LOW
        n_symmetric = n_low * (n_low + 1) // 2
        counts = (n_pairs, n_pairs, n * (n_low**2 + 2 * n_symmetric), 3 * n * n_symmetric)
        return np.repeat(np.arange(N_GROUPS), counts)

    def measure_centre(self, block: Block) -> tuple[FloatArray, FloatArray]:
        """Return sums of the l = 0 moments over atoms [Z, Z n], and numbers of atoms [Z], of each element."""
        sums, counts = np.zeros_like(self.centre), np.zeros(len(self.elements))
        for part, moments in self._moments(block):
            for slot, element in enumerate(self.elements):
                own = part.species == element
                sums[slot] += moments[own][:, :, 0].sum(axis=0)
                counts[slot] += own.sum()
        return sums, counts

    def evaluate(self, block: Block) -> FloatArray:
        """Return the features [B, 6, F]. Raises InputError for elements it does not know."""
        unknown = sorted(set(np.unique(block.species).tolist()) - set(self.elements.tolist()))
        if unknown:
            raise InputError(
                f"configurations must have elements that the stress was learned for ({self.elements.tolist()}) "
                f"but got atomic numbers {unknown}; train it with them."
            )
        return np.concatenate([self._of_moments(part, moments) for part, moments in self._moments(block)])

    def _moments(self, block: Block) -> list[tuple[Block, FloatArray]]:
        import torch

        from activeph.graphs.batch import block_graph, slice_block
        from activeph.graphs.moments import neighbour_moments
        from activeph.graphs.neighbours import CHUNK
        from activeph.graphs.table_moments import table_moments

        parts = []
        for start in range(0, len(block), CHUNK):
            part = slice_block(block, slice(start, start + CHUNK))
            moments = table_moments(part, self._finder, self.elements, N_RADIAL)
            if moments is None:
                elements: Tensor = torch.from_numpy(self.elements)
                moments = neighbour_moments(block_graph(part, self._finder), elements, CUTOFF, N_RADIAL)
            parts.append((part, moments.double().numpy().reshape(*part.species.shape, -1, moments.shape[-1])))
        return parts

    def _of_moments(self, block: Block, moments: FloatArray) -> FloatArray:
        """Return the features [B, 6, F] from moments [B, N, Z n, 9], per volume."""
        low = np.arange(moments.shape[2]) % N_RADIAL < N_LOW
        groups: list[list[FloatArray]] = [[] for _ in range(N_GROUPS)]
        for slot, element in enumerate(self.elements):
            own = moments * (block.species == element)[:, :, None, None]
            own[..., 0] -= self.centre[slot] * (block.species == element)[:, :, None]
            for group, features in zip(groups, (*_of_pairs(own), *_of_products(own[:, :, low])), strict=True):
                group.append(features)
        volumes = np.abs(np.linalg.det(block.cells))
        joined = np.concatenate([features for group in groups for features in group], axis=2)
        return np.asarray(joined / volumes[:, None, None])


def _of_pairs(moments: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return pair tensors, and their traces alone [B, 6, F], from one element's moments [B, N, F, 9]."""
    sums = moments.sum(axis=1)
    traces = sums[..., 0] / np.sqrt(3)
    traceless = np.sqrt(2 / 3) * sums[..., 4:].transpose(0, 2, 1)
    return np.concatenate([traceless, traces[:, None]], axis=1), _isotropic(traces)


def _of_products(moments: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return products coupled to traceless tensors and to scalars [B, 6, F'] from one element's moments."""
    n_structures, n_atoms, n, n_harmonics = moments.shape
    flat = moments.reshape(n_structures, n_atoms, n * n_harmonics)
    products = (flat.transpose(0, 2, 1) @ flat).reshape(n_structures, n, n_harmonics, n, n_harmonics)
    products = products.transpose(0, 2, 4, 1, 3)  # [B, lm, l'm', n, n']
    vectors, tensors = products[:, 1:4, 1:4], products[:, 4:, 4:]
    rows, columns = np.triu_indices(n)
    turning = [
        products[:, 0, 4:].reshape(n_structures, 5, -1),
        np.einsum("kst,bstn->bkn", TRACELESS, vectors[..., rows, columns]),
        np.einsum("kst,bstn->bkn", _PRODUCTS_OF_TENSORS, tensors[..., rows, columns]),
    ]
    scalars = [
        products[:, 0, 0][:, rows, columns],
        np.einsum("bssn->bn", vectors[..., rows, columns]),
        np.einsum("bssn->bn", tensors[..., rows, columns]),
    ]
    traceless = np.concatenate(turning, axis=2)
    return np.pad(traceless, ((0, 0), (0, 1), (0, 0))), _isotropic(np.concatenate(scalars, axis=1))


def _isotropic(values: FloatArray) -> FloatArray:
    """Return features [B, 6, F] with nothing but the given traces [B, F]."""
    return np.pad(values[:, None], ((0, 0), (5, 0), (0, 0)))
