"""Force constants from displacements and forces, in the space of those that the crystal's symmetry allows.

The basis (space group, index permutation, acoustic sum rule) comes from symfc: A. Seko and A. Togo, Phys. Rev. B 110,
214302 (2024). It is computed once per crystal and used for every refit.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.phonons.lattice import primitive_lattice
from activeph.records import FloatArray, System

_CHUNK = 4_000_000  # numbers held at once: bounds memory, not results


class ForceConstantFit:
    """The symmetric force constants of one supercell: fits to forces, and projection of given ones.

    P parameters multiply an orthonormal basis of compact force constants.
    """

    def __init__(self, system: System) -> None:
        """Compute the basis; seconds for some hundred atoms of low symmetry."""
        from symfc import Symfc
        from symfc.utils.utils import SymfcAtoms

        cell = system.supercell
        atoms = SymfcAtoms(
            numbers=cell.numbers.tolist(), cell=cell.cell, scaled_positions=cell.positions @ np.linalg.inv(cell.cell)
        )
        self._system = system
        self._lattice = primitive_lattice(system)
        symfc: Any = Symfc(atoms)
        symfc.compute_basis_set(max_order=2)
        basis = symfc.basis_set[2]
        n_atoms = len(cell.numbers)
        if np.array_equal(symfc.p2s_map, system.primitive_atoms):
            matrix = basis.compact_compression_matrix
        else:  # another choice of primitive atoms: take their rows of the full matrix
            rows = (system.primitive_atoms[:, None] * 9 * n_atoms + np.arange(9 * n_atoms)).ravel()
            matrix = basis.compression_matrix.tocsr()[rows]
        self._compression = matrix.tocsr() * np.sqrt(self._lattice.n_cells)  # orthonormal as compact force constants
        self._blocks = basis.blocked_basis_set
        self._shape = (len(system.primitive_atoms), n_atoms, 3, 3)

    @property
    def n_parameters(self) -> int:
        """Number P of independent force constants."""
        return int(self._blocks.shape[1])

    def constants(self, parameters: FloatArray) -> FloatArray:
        """Return compact force constants [n_prim, N, 3, 3] in eV/Å² of parameters [P]."""
        return np.asarray(self._compression @ (self._blocks @ parameters)).reshape(self._shape)

    def parameters(self, constants: FloatArray) -> FloatArray:
        """Return the parameters [P] of the symmetric force constants nearest to compact ones."""
        return np.asarray(self._blocks.T @ (self._compression.T @ constants.ravel()))

    def solve(self, displacements: FloatArray, forces: FloatArray) -> FloatArray:
        """Return compact force constants [n_prim, N, 3, 3] in eV/Å² by least squares.

        Args:
            displacements: [S, N, 3] Å from the supercell's positions.
            forces: [S, N, 3] eV/Å.

        Raises:
            InputError: the structures do not determine all force constants.
        """
        matrix, vector = self.normal_equations(displacements, forces, np.ones(len(forces)))
        scale = np.trace(matrix) / max(len(matrix), 1)
        values = np.linalg.eigvalsh(matrix)
        if len(values) and values[0] < 1e-10 * scale:
            raise InputError(
                f"{self.n_parameters} force constants must be determined by the labelled structures but got "
                f"{len(forces)} structures that leave some open; label more displacements"
            )
        return self.constants(np.asarray(np.linalg.solve(matrix, vector)))

    def normal_equations(
        self, displacements: FloatArray, forces: FloatArray, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return A [P, P] and b [P] of the weighted least squares fit A c = b of forces = -Φ(c) displacements.

        Forces [S, N, 3, X] of X kinds give b [P, X].
        """
        n_atoms = len(self._system.supercell.numbers)
        if displacements.shape != forces.shape[:3] or displacements.shape[1:] != (n_atoms, 3):
            raise InputError(
                f"displacements and forces must both have shape (S, {n_atoms}, 3) but got {displacements.shape} and "
                f"{forces.shape}; give one set of forces per structure"
            )
        size, kinds = self.n_parameters, forces.shape[3:]
        matrix, vector = np.zeros((size, size)), np.zeros((size, *kinds))
        roots = np.sqrt(weights)[:, None, None]
        step = max(1, _CHUNK // (3 * n_atoms * max(size, n_atoms)))
        for start in range(0, len(forces), step):
            part = slice(start, start + step)
            design = self._design(displacements[part] * roots[part])
            matrix += design.T @ design
            ordered = forces[part][:, self._lattice.atoms.T]  # [S, translation, primitive atom, 3, X]
            weighted = ordered * roots[part].reshape(-1, *[1] * (ordered.ndim - 1))
            vector += design.T @ weighted.reshape(len(design), *kinds)
        return matrix, vector

    def energies(self, parameters: FloatArray, displacements: FloatArray) -> FloatArray:
        """Return the harmonic energies [S] in eV of displacements [S, N, 3] under force constants of parameters [P]."""
        forces = (self._design(displacements) @ parameters).reshape(len(displacements), -1)
        ordered = displacements[:, self._lattice.atoms.T].reshape(len(displacements), -1)
        return np.asarray(-0.5 * np.sum(forces * ordered, axis=1))

    def _design(self, displacements: FloatArray) -> FloatArray:
        """Return the forces [S 3N, P] of unit parameters; rows: structure, translation, primitive atom, direction."""
        shifted = displacements[:, self._translated].reshape(len(displacements) * self._lattice.n_cells, -1)
        return -(shifted @ self._dense).reshape(-1, self.n_parameters)

    @cached_property
    def _dense(self) -> FloatArray:
        """Basis as a matrix [3N, 3 n_prim P]: atom and direction displaced; atom and direction of the force."""
        basis = np.asarray(self._compression @ (self._blocks @ np.eye(self.n_parameters)))
        n_sites, n_atoms = self._shape[:2]
        ordered = basis.reshape(n_sites, n_atoms, 3, 3, -1).transpose(1, 3, 0, 2, 4)
        return np.ascontiguousarray(ordered).reshape(3 * n_atoms, -1)

    @cached_property
    def _translated(self) -> Any:
        """Atom [L, N] that stands to translation l as each atom stands to the origin."""
        result = np.empty((self._lattice.n_cells, self._lattice.atoms.size), dtype=np.int64)
        for cell, vector in enumerate(self._lattice.translations):
            result[cell, self._lattice.atoms] = self._lattice.atoms[:, self._lattice.shifted(vector)]
        return result


def exchanged(system: System, constants: FloatArray) -> FloatArray:
    """Return compact force constants [n_prim, N, 3, 3] with the atoms of each pair exchanged: true ones stay."""
    lattice = primitive_lattice(system)
    opposite = lattice.opposite()
    by_cell = constants[:, lattice.atoms][:, :, opposite]  # [a, b, L, 3, 3], translation -l
    result = np.empty_like(constants)
    result[:, lattice.atoms] = by_cell.transpose(1, 0, 2, 4, 3)
    return result


def full_force_constants(system: System, constants: FloatArray) -> FloatArray:
    """Return force constants between all pairs [N, N, 3, 3] of the compact ones of a system."""
    lattice = primitive_lattice(system)
    n_sites, n_cells = lattice.atoms.shape
    result = np.empty((n_sites * n_cells, n_sites * n_cells, 3, 3))
    for cell, row in enumerate(lattice.translations):
        shifted = lattice.shifted(row)  # [L] index of each translation plus row
        for site in range(n_sites):
            result[lattice.atoms[site, cell]][lattice.atoms[:, shifted]] = constants[site][lattice.atoms]
    return result
