"""Pair terms beside the harmonic crystal: the anharmonic part of the forces that a few labels teach, averaged exactly.

In a strongly anharmonic crystal most of the forces' variance is noise to a fit of force constants. Central pair terms
V = Σ_ij Σ_k c_k φ_k(|r_j - r_i|) are linear in c, so a handful of labels fixes them, and their mean curvature over a
Gaussian is a three-dimensional integral per pair (T. R. Koehler, Phys. Rev. Lett. 17, 89 (1966)). What is left for
force constants to learn from the labels is the remainder: a control variate, which changes no expectation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from activeph.graphs.neighbours import ReferenceNeighbours, direct_edges
from activeph.graphs.pairs import search_pairs
from activeph.records import FloatArray, IntArray, System

DECAYS = (0.8, 0.4, 0.24, 0.16, 0.12)
"""Decay lengths of the exponentials, in units of the crystal's shortest distance."""
REACH = 2.4
"""Cutoff, in units of the crystal's shortest distance."""
ORDER = 6  # Gauss-Hermite points along each axis
SKIN = 2.0  # Å beyond the cutoff at which atoms may still meet within it


@dataclass(frozen=True, eq=False)
class PairAverage:
    """What pair terms are on average over a Gaussian, for unit coefficients; Q of them."""

    energies: FloatArray  # [Q] eV per supercell
    constants: FloatArray  # [Q, n_prim, N, 3, 3] eV/Å², mean curvature as compact force constants


class PairTerms:
    """The pair terms of one crystal: φ(r) = exp(-(r - d)/ρ) (1 - (r/r_c)²)³ for each pair of species and each ρ.

    d is the shortest distance of the two species, so that no term is out of scale.
    """

    def __init__(self, system: System) -> None:
        """Look up the shortest distances; milliseconds."""
        cell = system.supercell
        self._system = system
        self._species = np.unique(cell.numbers, return_inverse=True)[1]
        self._kinds, shortest = _kinds(system, self._species)
        self.cutoff = REACH * float(shortest.min())
        self._offsets = np.where(np.isfinite(shortest), shortest, self.cutoff)
        self._decays = np.array(DECAYS) * float(shortest.min())
        self._neighbours = ReferenceNeighbours(cell, self.cutoff)

    @property
    def n_terms(self) -> int:
        """Number Q of coefficients."""
        return len(self._offsets) * len(self._decays)

    @property
    def nothing(self) -> PairAverage:
        """The average of no pair terms at all."""
        n_atoms, n_sites = len(self._species), len(self._system.primitive_atoms)
        return PairAverage(np.zeros(self.n_terms), np.zeros((self.n_terms, n_sites, n_atoms, 3, 3)))

    def evaluate(self, displacements: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return energies [S, Q] in eV and forces [S, N, 3, Q] in eV/Å of unit coefficients."""
        n_structures, n_atoms = displacements.shape[:2]
        energies = np.zeros((n_structures, self.n_terms))
        forces = np.zeros((n_structures, n_atoms, 3, self.n_terms))
        for row, u in enumerate(displacements):
            for kind, i, j, vectors in self._edges(u):
                lengths = np.linalg.norm(vectors, axis=1)
                value, slope, _ = self._radial(lengths, self._offsets[kind])
                place = slice(kind * len(DECAYS), (kind + 1) * len(DECAYS))
                energies[row, place] = value.sum(axis=0)
                pull = (vectors / lengths[:, None])[:, :, None] * slope[:, None, :]  # [H, 3, R] on i, towards j
                np.add.at(forces[row, :, :, place], i, pull)
                np.add.at(forces[row, :, :, place], j, -pull)
        return energies, forces

    def average(self, covariance: FloatArray) -> PairAverage:
        """Return means over Gaussian displacements of covariance [3N, 3N] in Å² about the supercell's positions."""
        n_atoms, first = len(self._species), self._system.primitive_atoms
        n_cells = n_atoms // len(first)
        blocks = covariance.reshape(n_atoms, 3, n_atoms, 3).transpose(0, 2, 1, 3)
        energies = np.zeros(self.n_terms)
        constants = np.zeros((self.n_terms, len(first), n_atoms, 3, 3))
        for site, kind, atoms, vectors in self._from_primitive:
            i, place = first[site], slice(kind * len(DECAYS), (kind + 1) * len(DECAYS))
            relative = blocks[i, i] + blocks[atoms, atoms] - blocks[i, atoms] - blocks[atoms, i]
            means, curvatures = self._gaussian(vectors, relative, self._offsets[kind])
            energies[place] += 0.5 * n_cells * means.sum(axis=0)
            for term, curvature in enumerate(curvatures.transpose(1, 0, 2, 3), start=place.start):
                np.add.at(constants[term, site], atoms, -curvature)
                constants[term, site, i] += curvature.sum(axis=0)
        return PairAverage(energies, constants)

    def _gaussian(self, vectors: FloatArray, relative: FloatArray, offset: float) -> tuple[FloatArray, FloatArray]:
        """Return mean values [H, R] and mean second derivatives [H, R, 3, 3] of pairs at d + δ, ⟨δδ⟩ = ``relative``."""
        points, weights = _quadrature()
        values, axes = np.linalg.eigh(relative)
        roots = axes * np.sqrt(np.maximum(values, 0))[:, None, :]
        places = vectors[:, None, :] + np.einsum("gk,hxk->hgx", points, roots)
        lengths = np.linalg.norm(places, axis=2)
        along = places / lengths[:, :, None]
        value, slope, curvature = self._radial(lengths, offset)  # [H, G, R]
        across = slope / lengths[:, :, None]
        result = np.einsum("g,hgr,hgx,hgy->hrxy", weights, curvature - across, along, along, optimize=True)
        isotropic = np.einsum("g,hgr->hr", weights, across)
        return np.einsum("g,hgr->hr", weights, value), result + isotropic[:, :, None, None] * np.eye(3)

    def _radial(self, lengths: FloatArray, offset: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return φ, φ' and φ'' of all decay lengths, on a last axis of their own; zero beyond the cutoff."""
        r = lengths[..., None]
        inside = np.maximum(1 - (r / self.cutoff) ** 2, 0)
        decay = np.exp(-(r - offset) / self._decays)
        window, slope = inside**3, -6 * r / self.cutoff**2 * inside**2
        bend = -6 / self.cutoff**2 * inside**2 + 24 * (r / self.cutoff**2) ** 2 * inside
        rate = 1 / self._decays
        return (
            decay * window,
            decay * (slope - rate * window),
            decay * (bend - 2 * rate * slope + rate**2 * window),
        )

    def _edges(self, u: FloatArray) -> Iterator[tuple[int, IntArray, IntArray, FloatArray]]:
        """Yield the pairs of one displaced structure, each once, by kind of pair."""
        cell = self._system.supercell
        positions, cells = (cell.positions + u)[None], cell.cell[None]
        edges = self._neighbours.edges(positions, cells) or direct_edges(positions, cells, self.cutoff)
        kinds = self._kinds[self._species[edges.i], self._species[edges.j]]
        for kind in range(len(self._offsets)):
            rows = np.flatnonzero((kinds == kind) & (edges.i != edges.j))  # an atom's image moves with it: no force
            yield kind, edges.i[rows], edges.j[rows], edges.vectors[rows]

    @cached_property
    def _from_primitive(self) -> list[tuple[int, int, IntArray, FloatArray]]:
        """The pairs of every primitive atom with all others: site, kind of pair, other atoms, vectors in Å."""
        found = []
        cell = self._system.supercell
        half = search_pairs(cell, self.cutoff + SKIN)
        i, j = np.concatenate([half.i, half.j]), np.concatenate([half.j, half.i])
        forward = cell.positions[half.j] - cell.positions[half.i] + half.shifts @ cell.cell
        vectors = np.concatenate([forward, -forward])
        kinds = self._kinds[self._species[i], self._species[j]]
        for site, atom in enumerate(self._system.primitive_atoms):
            for kind in np.unique(kinds[i == atom]):
                rows = np.flatnonzero((i == atom) & (kinds == kind) & (j != atom))
                found.append((site, int(kind), j[rows], vectors[rows]))
        return found


def _kinds(system: System, species: IntArray) -> tuple[IntArray, FloatArray]:
    """Return the number of the kind of pair for two species, and the shortest distance in Å of each kind."""
    n_species = int(species.max()) + 1
    kinds = np.empty((n_species, n_species), dtype=np.int64)
    for number, (a, b) in enumerate(itertools.combinations_with_replacement(range(n_species), 2)):
        kinds[a, b] = kinds[b, a] = number
    cell = system.supercell
    reach = 1.5 * float(np.cbrt(abs(np.linalg.det(cell.cell)) / len(species)))
    shortest = np.full(n_species * (n_species + 1) // 2, np.inf)
    while not np.isfinite(shortest).any():
        reach *= 1.5
        pairs = search_pairs(cell, reach)
        vectors = cell.positions[pairs.j] - cell.positions[pairs.i] + pairs.shifts @ cell.cell
        np.minimum.at(shortest, kinds[species[pairs.i], species[pairs.j]], np.linalg.norm(vectors, axis=1))
    return kinds, shortest


@cache
def _quadrature() -> tuple[FloatArray, FloatArray]:
    """Return points [G, 3] and weights [G] of the standard normal in three dimensions (Gauss-Hermite product rule)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(ORDER)
    weights = weights / weights.sum()
    points = np.array(list(itertools.product(nodes, repeat=3)))
    return points, np.array(list(itertools.product(weights, repeat=3))).prod(axis=1)
