"""What runs inside GPAW: ``python gpaw_job.py input.json output.npz``, or ``gpaw python`` under MPI.

Stands alone: it may run in an environment that has GPAW but not activeph. Exit status 3 says: not converged.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

UNCONVERGED = 3


def main() -> None:
    """Calculate, and let the first process write the answer. All methods of a calculator are collective."""
    from ase import Atoms
    from gpaw import GPAW, KohnShamConvergenceError, __version__
    from gpaw.mpi import world

    with open(sys.argv[1], encoding="utf-8") as stream:
        task: dict[str, Any] = json.load(stream)
    atoms = Atoms(task["numbers"], task["positions"], cell=task["cell"], pbc=True)
    if task["magnetic_moments"]:
        atoms.set_initial_magnetic_moments(task["magnetic_moments"])
    atoms.calc = GPAW(**task["keywords"])
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
        forces = atoms.get_forces()
        stress = atoms.get_stress()
    except KohnShamConvergenceError:
        sys.exit(UNCONVERGED)
    calculator = atoms.calc
    weights = np.asarray(calculator.get_k_point_weights())
    bands = [(s, k) for s in range(calculator.get_number_of_spins()) for k in range(len(weights))]
    eigenvalues = [calculator.get_eigenvalues(kpt=k, spin=s) for s, k in bands]
    occupations = [calculator.get_occupation_numbers(kpt=k, spin=s) for s, k in bands]
    iterations = calculator.get_number_of_iterations()
    if world.rank == 0:
        shape = (calculator.get_number_of_spins(), len(weights), -1)
        np.savez(
            sys.argv[2],
            energy=energy,
            forces=forces,
            stress=stress,
            eigenvalues=np.reshape(eigenvalues, shape),
            occupations=np.reshape(occupations, shape),
            weights=weights,
            iterations=iterations,
            version=__version__,
        )


if __name__ == "__main__":
    main()
