"""Force constants from displacements and forces, in the space of those that the crystal's symmetry allows.

The basis (space group, index permutation, acoustic sum rule) comes from symfc: A. Seko and A. Togo, Phys. Rev. B 110,
214302 (2024). It is computed once per crystal and used for every refit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.phonons.lattice import primitive_lattice
from activeph.records import FloatArray, System


class ForceConstantFit:
    """The symmetric force constants of one supercell: fits to forces, and projection of given ones."""

    def __init__(self, system: System) -> None:
        """Compute the basis; seconds for some hundred atoms of low symmetry."""
        from symfc import Symfc
        from symfc.utils.utils import SymfcAtoms

        cell = system.supercell
        atoms = SymfcAtoms(
            numbers=cell.numbers.tolist(), cell=cell.cell, scaled_positions=cell.positions @ np.linalg.inv(cell.cell)
        )
        self._system = system
        self._symfc: Any = Symfc(atoms)
        self._symfc.compute_basis_set(max_order=2)
        self._compact = np.array_equal(self._symfc.p2s_map, system.primitive_atoms)

    @property
    def n_parameters(self) -> int:
        """Number of independent force constants."""
        return int(self._symfc.basis_set[2].blocked_basis_set.shape[1])

    def solve(self, displacements: FloatArray, forces: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """Return compact force constants [n_prim, N, 3, 3] in eV/Å² by (weighted) least squares.

        Args:
            displacements: [S, N, 3] Å from the supercell's positions.
            forces: [S, N, 3] eV/Å.
            weights: [S] weight of each structure's squared residual.

        Raises:
            InputError: fewer forces than independent force constants.
        """
        n_atoms = len(self._system.supercell.numbers)
        if displacements.shape != forces.shape or displacements.shape[1:] != (n_atoms, 3):
            raise InputError(
                f"displacements and forces must both have shape (S, {n_atoms}, 3) but got {displacements.shape} and "
                f"{forces.shape}; give one set of forces per structure"
            )
        if weights is not None:
            root = np.sqrt(weights / np.max(weights))[:, None, None]
            displacements, forces = displacements * root, forces * root
        self._symfc.displacements = np.ascontiguousarray(displacements)
        self._symfc.forces = np.ascontiguousarray(forces)
        try:
            self._symfc.solve(max_order=2, is_compact_fc=self._compact)
        except np.linalg.LinAlgError as error:
            raise InputError(
                f"{self.n_parameters} force constants need more labelled structures but got {len(forces)}; add some"
            ) from error
        constants = self._symfc.force_constants[2]
        return np.array(constants if self._compact else constants[self._system.primitive_atoms])

    def project(self, constants: FloatArray) -> FloatArray:
        """Return the nearest symmetric force constants to compact ones [n_prim, N, 3, 3]."""
        full = constants if self._compact else full_force_constants(self._system, constants)
        basis = self._symfc.basis_set[2]
        matrix = (basis.compact_compression_matrix if self._compact else basis.compression_matrix).tocsc()
        coefficients = basis.blocked_basis_set.T @ (full.ravel() @ matrix)
        result = np.asarray(matrix @ (basis.blocked_basis_set @ coefficients)).reshape(full.shape)
        if self._compact:
            return result * len(basis.translation_permutations)
        return result[self._system.primitive_atoms]


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
