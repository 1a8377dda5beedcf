"""The moments of :mod:`activeph.graphs.moments` for many displacements of one crystal, summed over tables of pairs.

There a graph may hold any structures and gradients are followed; here one list of pairs and one sparse matrix serve
all structures of a block, which is five times as fast. Both are the same sums.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from activeph.graphs.moments import N_HARMONICS
from activeph.graphs.neighbours import NeighbourFinder
from activeph.graphs.pairs import Array, Pairs, PairTable
from activeph.graphs.radial import SMALLEST, radial_functions
from activeph.records import Block, IntArray

KEPT = 8  # lists of pairs whose matrices are remembered


def table_moments(block: Block, finder: NeighbourFinder, elements: IntArray, n_radial: int) -> Tensor | None:
    """Return the moments [B N, Z n_radial, 9] within the finder's cutoff; ``elements`` [Z] are sorted atomic numbers.

    ``None`` where not every place has the same species in all configurations.
    """
    species = block.species[0]
    if not np.all(block.species == species):
        return None
    shape = len(block), len(species), len(elements) * n_radial, N_HARMONICS
    result = np.empty(shape, dtype=np.float32)
    slots = np.searchsorted(elements, species)
    for rows, table in finder.tables(block):
        gather = _gather(table.pairs, slots.tobytes(), len(elements))
        sums = _sums(table, finder.cutoff, n_radial, gather)  # [n, 9, N Z, B]
        sums = sums.reshape(n_radial, N_HARMONICS, len(species), len(elements), -1)
        result[rows] = sums.transpose(4, 2, 3, 0, 1).reshape(-1, *shape[1:])
    return torch.from_numpy(result.reshape(-1, *shape[2:]))


def _sums(table: PairTable, cutoff: float, n_radial: int, gather: tuple[csr_array, csr_array]) -> Array:
    """Return the sums [n, 9, N Z, B] of radial functions times harmonics over all pairs of an atom."""
    n_pairs, n_structures = table.squares.shape
    harmonics = _harmonics(table)
    products = [np.empty(values.shape, values.dtype) for values in harmonics]
    sums = np.empty((n_radial, N_HARMONICS, gather[0].shape[0], n_structures), table.squares.dtype)
    for n, radial in enumerate(radial_functions(table.squares, cutoff, n_radial)):
        for matrix, values, product, orders in zip(gather, harmonics, products, (EVEN, ODD), strict=True):
            np.multiply(values, radial[:, None], out=product)
            gathered = matrix @ product.reshape(n_pairs, -1)
            sums[n, orders] = gathered.reshape(-1, len(orders), n_structures).transpose(1, 0, 2)
    return sums


EVEN, ODD = [0, 4, 5, 6, 7, 8], [1, 2, 3]  # harmonics that are the same seen from the other atom, or the opposite


def _harmonics(table: PairTable) -> tuple[Array, Array]:
    """Return even [H, 6, B] and odd [H, 3, B] harmonics as :func:`activeph.graphs.moments.harmonics`."""
    odd = table.vectors / np.sqrt(np.maximum(table.squares, SMALLEST**2))
    x, y, z = odd
    root = math.sqrt(3.0)
    even = np.empty((len(x), len(EVEN), x.shape[1]), x.dtype)
    even[:, 0] = 1
    np.multiply(x, root * y, out=even[:, 1])
    np.multiply(y, root * z, out=even[:, 2])
    np.multiply(x, root * z, out=even[:, 3])
    np.multiply(x * x - y * y, root / 2, out=even[:, 4])
    np.subtract(1.5 * z * z, 0.5, out=even[:, 5])
    return even, odd.transpose(1, 0, 2)


@lru_cache(maxsize=KEPT)
def _gather(pairs: Pairs, slots: bytes, n_elements: int) -> tuple[csr_array, csr_array]:
    """Return matrices [N Z, H] that add each pair's even and odd functions to both of its atoms."""
    of_atoms = np.frombuffer(slots, dtype=np.int64)
    rows = np.concatenate([pairs.i * n_elements + of_atoms[pairs.j], pairs.j * n_elements + of_atoms[pairs.i]])
    columns = np.tile(np.arange(len(pairs.i)), 2)
    shape = len(of_atoms) * n_elements, len(pairs.i)
    one = np.ones(len(pairs.i), dtype=np.float32)
    there_and_back = ((one, one), (one, -one))
    even, odd = (csr_array((np.concatenate(signs), (rows, columns)), shape=shape) for signs in there_and_back)
    return even, odd
