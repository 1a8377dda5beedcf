"""Where one more atom finds room in a crystal, whatever the shape of its cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeph.records import Configuration, FloatArray, IntArray

VACUUM = 4.0
"""Å: a void with a larger radius is no part of the crystal."""
_SHELL = 1.2  # atoms up to this factor beyond the nearest one stand around a place
_EQUAL = 0.02  # Å, distances that differ by less are one: what rounded coordinates leave of a symmetric site
_SLOPE = 0.01  # gain in distance per Å of the way, below which there is none


def empty_directions(cell: Configuration) -> NDArray[np.bool_]:
    """Return along which lattice vectors [3] a layer, chain or molecule stands alone: an empty slice across them is
    thicker than twice :data:`VACUUM`.
    """
    fractions = np.sort(cell.positions @ np.linalg.inv(cell.cell) % 1.0, axis=0)
    gaps = np.diff(fractions, axis=0, append=fractions[:1] + 1.0).max(axis=0)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell.cell), axis=0)  # Å between planes across each vector
    return np.asarray(gaps * heights > 2 * VACUUM)


def voids(cell: Configuration, smallest: float) -> tuple[FloatArray, FloatArray]:
    """Return the middles [n, 3] of voids in Å, one of each periodic set, and their radii [n] in Å, largest first.

    A middle is a point from which every way leads nearer to some atom: a Voronoi vertex inside the hull of the atoms
    that it is nearest to. (From other vertices a larger void is reached downhill.) The radius is the distance to those
    atoms; radii from ``smallest`` to :data:`VACUUM` are returned. Some middles may be nearly the same.
    """
    from scipy.spatial import Voronoi, cKDTree

    lattice = _reduced(cell)
    atoms, _ = _around(cell, lattice)
    vertices = Voronoi(atoms).vertices
    fractions = vertices @ np.linalg.inv(lattice)
    vertices = vertices[((fractions > -1e-6) & (fractions < 1 - 1e-6)).all(axis=1)]
    tree = cKDTree(atoms)
    radii = tree.query(vertices)[0]
    fits = (radii >= smallest) & (radii <= VACUUM)
    vertices, radii = vertices[fits], radii[fits]
    touched = tree.query_ball_point(vertices, radii + _EQUAL)
    middle = [_encloses(atoms[own] - place) for own, place in zip(touched, vertices, strict=True)]
    vertices, radii = vertices[middle], radii[middle]
    order = np.argsort(-np.round(radii, 3), kind="stable")
    return vertices[order], radii[order]


def atoms_around(cell: Configuration, place: FloatArray) -> IntArray:
    """Return the atoms that stand around one of :func:`voids`, those twice that do so with two images."""
    lattice = _reduced(cell)
    atoms, owners = _around(cell, lattice)
    fraction = place @ np.linalg.inv(lattice)
    lengths = np.linalg.norm(atoms - (fraction - np.floor(fraction)) @ lattice, axis=1)
    return np.asarray(owners[lengths < _SHELL * lengths.min()])


def _encloses(vectors: FloatArray) -> bool:
    """Return whether the origin is in the hull of vectors [n, 3]: else one way leads away from all of them."""
    from scipy.optimize import nnls

    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = np.vstack([directions.T, np.ones(len(directions))])
    return bool(nnls(matrix, np.array([0.0, 0.0, 0.0, 1.0]))[1] < _SLOPE)


def _reduced(cell: Configuration) -> FloatArray:
    """Return the shortest vectors of a cell's lattice as rows."""
    from ase.geometry import minkowski_reduce

    return np.asarray(minkowski_reduce(cell.cell)[0])


def _around(cell: Configuration, lattice: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the positions [M, 3] of all atoms that a void in the cell of ``lattice`` needs, and which atoms they are.

    Among them are all within ``_SHELL`` times :data:`VACUUM` of any point of the cell.
    """
    inverse = np.linalg.inv(lattice)
    reach = np.ceil(_SHELL * (VACUUM + _EQUAL) * np.linalg.norm(inverse, axis=0))  # over the heights of the cell
    images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 1, 3)
    own = cell.positions @ inverse
    return (own - np.floor(own) + images).reshape(-1, 3) @ lattice, np.tile(np.arange(len(own)), len(images))
