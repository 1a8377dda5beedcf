"""From a structure file, a supercell and perhaps a phonopy file to a :class:`~activeph.records.System`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.records import Configuration, FloatArray, IntArray, System

_COINCIDENT = 0.3  # Å, shorter than any bond
SNAP = 1e-3  # Å: rounding of coordinates in files; atoms this close to a symmetric place are put there


def load_system(
    name: str,
    structure: Path,
    supercell: Sequence[int] | Sequence[Sequence[int]] | IntArray,
    force_constants: Path | None = None,
    masses: Mapping[str, float] | None = None,
) -> System:
    """Return the system of a structure file.

    Args:
        name: what the campaign calls it.
        structure: any file ASE reads; the last frame counts.
        supercell: three repetitions of the cell in the file, or a 3x3 matrix in phonopy's convention.
        force_constants: phonopy_params.yaml, phonopy.yaml, FORCE_SETS, FORCE_CONSTANTS or force_constants.hdf5.
        masses: mass in amu by chemical symbol where it differs from the standard one (isotopes).

    Raises:
        InputError: a missing, empty or unreadable file, a cell without volume, a supercell of one atom, or force
            constants that belong to another crystal.
    """
    system = make_system(name, read_structure(structure), supercell, masses)
    if force_constants is None:
        return system
    from activeph.systems.files import read_force_constants

    return read_force_constants(system, Path(force_constants))


def read_structure(path: Path) -> Configuration:
    """Return the (last) structure of a file that ASE reads."""
    import ase.io

    path = Path(path)
    check_file(path, "structure")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = ase.io.read(path, index=-1)
    except Exception as error:
        raise InputError(
            f"structure must be a file that ASE reads but got {path} ({_reason(error)}); "
            "try CIF, POSCAR or extended XYZ"
        ) from error
    if len(atoms) == 0:
        raise InputError(f"structure must hold atoms but got none in {path}; check the file")
    shares = [share for site in (atoms.info.get("occupancy") or {}).values() for share in site.values()]
    if min(shares, default=1.0) < 0.999:
        raise InputError(
            f"structure must have fully occupied sites but got an occupancy of {min(shares):g} in {path}; "
            "choose one ordered arrangement of the atoms"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"structure must hold finite numbers but got nan or inf in {path}; check the file")
    if abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise InputError(
            f"structure must have a cell with three lattice vectors but got {atoms.cell.array.tolist()} in {path}; "
            "put a molecule or slab into a box with vacuum"
        )
    if np.linalg.det(atoms.cell.array) < 0:
        raise InputError(
            f"structure must have right-handed lattice vectors but got {np.round(atoms.cell.array, 4).tolist()} in "
            f"{path}; exchange two of them, and the fractional coordinates along them"
        )
    return Configuration(
        np.asarray(atoms.numbers, dtype=np.int64), np.array(atoms.positions), np.array(atoms.cell.array)
    )


def make_system(
    name: str,
    unit_cell: Configuration,
    supercell: Sequence[int] | Sequence[Sequence[int]] | IntArray,
    masses: Mapping[str, float] | None = None,
) -> System:
    """Return the system of a unit cell without force constants; coordinates are freed of rounding by symmetry."""
    matrix = _matrix(supercell)
    _check_distances(name, unit_cell)
    unit_cell = _snapped(unit_cell)
    n_atoms = len(unit_cell.numbers) * abs(round(np.linalg.det(matrix)))
    if n_atoms < 2:
        raise InputError(
            f"supercell of system {name!r} must have at least 2 atoms but got {n_atoms}; "
            "raise `supercell`, e.g. [2, 2, 2]"
        )
    try:
        phonon = new_phonopy(phonopy_atoms(unit_cell, masses), matrix, "auto", symmetry=False)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"structure of system {name!r} must be a crystal but got one that phonopy refuses ({_reason(error)}); "
            "look at the structure file"
        ) from error
    return system_of(name, phonon)


def system_of(name: str, phonon: Any) -> System:
    """Return the system of a phonopy object, with its force constants if it has any."""
    cell = phonon.supercell
    return System(
        name=name,
        unit_cell=_configuration(phonon.unitcell),
        supercell=_configuration(cell),
        supercell_matrix=np.array(phonon.supercell_matrix, dtype=np.int64),
        primitive_matrix=np.array(phonon.primitive_matrix, dtype=np.float64),
        masses=np.array(cell.masses, dtype=np.float64),
        primitive_atoms=np.array(phonon.primitive.p2s_map, dtype=np.int64),
        force_constants=compact(phonon),
    )


def phonopy_of(system: System) -> Any:
    """Return the phonopy object of a system, force constants and Born charges included."""
    unit_masses: FloatArray = np.empty(len(system.unit_cell.numbers))
    unit_cell = phonopy_atoms(system.unit_cell, dict.fromkeys(_symbols(system.unit_cell), 1.0))
    phonon = new_phonopy(unit_cell, system.supercell_matrix, system.primitive_matrix)
    for atom, image in enumerate(phonon.supercell.u2s_map):
        unit_masses[atom] = system.masses[image]
    unit_cell.masses = unit_masses
    phonon = new_phonopy(unit_cell, system.supercell_matrix, system.primitive_matrix)
    if system.force_constants is not None:
        phonon.force_constants = system.force_constants
    if system.born_charges is not None and system.dielectric is not None:
        from phonopy.physical_units import get_calculator_physical_units

        factor = get_calculator_physical_units(None).nac_factor
        phonon.nac_params = {"born": system.born_charges, "dielectric": system.dielectric, "factor": factor}
    return phonon


def new_phonopy(
    unit_cell: Any,
    supercell_matrix: Any,
    primitive_matrix: Any,
    calculator: str | None = None,
    symmetry: bool = True,
) -> Any:
    """Return a phonopy object, without its remarks on defaults and on supercells of lower symmetry.

    ``symmetry`` searches that of the supercell: seconds for thousands of atoms, needed for displacements only.
    """
    from phonopy import Phonopy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Phonopy(
            unit_cell, supercell_matrix, primitive_matrix=primitive_matrix, calculator=calculator, is_symmetry=symmetry
        )


def phonopy_atoms(configuration: Configuration, masses: Mapping[str, float] | None = None) -> Any:
    """Return phonopy's atoms of a configuration, standard masses where none are given."""
    from phonopy.structure.atoms import PhonopyAtoms

    masses, symbols = masses or {}, _symbols(configuration)
    unknown = sorted(set(masses) - set(symbols))
    if unknown:
        raise InputError(
            f"masses must name elements of the crystal but got {', '.join(unknown)}; "
            f"it has {', '.join(sorted(set(symbols)))}"
        )
    each = {symbol: masses.get(symbol) or _standard_mass(symbol) for symbol in symbols}
    return PhonopyAtoms(
        numbers=configuration.numbers.tolist(),
        cell=configuration.cell,
        positions=configuration.positions,
        masses=[each[symbol] for symbol in symbols],
    )


def _standard_mass(symbol: str) -> float:
    """Return the standard mass in amu. Raises InputError for an element without one, such as Po."""
    from ase.data import atomic_masses, atomic_numbers
    from phonopy.structure.atoms import PhonopyAtoms

    try:
        return float(PhonopyAtoms([symbol], cell=np.eye(3), positions=np.zeros((1, 3))).masses[0])
    except RuntimeError:
        isotope = f"{{{symbol}: {atomic_masses[atomic_numbers[symbol]]:g}}}"
        raise InputError(
            f"masses of the system must have {symbol}, which has no standard mass, but got none for it; "
            f"write that of the isotope beside `structure`, such as `masses: {isotope}`"
        ) from None


def compact(phonon: Any) -> FloatArray | None:
    """Return the compact force constants [n_prim, N, 3, 3] of a phonopy object, however it stores them."""
    constants = phonon.force_constants
    if constants is None:
        return None
    if len(constants) != len(phonon.primitive.p2s_map):
        constants = constants[phonon.primitive.p2s_map]
    return np.array(constants, dtype=np.float64)


def check_file(path: Path, key: str) -> None:
    """Refuse a path that is missing, a folder or empty."""
    if not path.exists():
        raise InputError(f"{key} must be an existing file but got {path}; check the path")
    if path.is_dir():
        raise InputError(f"{key} must be a file but got the folder {path}; name the file in it")
    if path.stat().st_size == 0:
        raise InputError(f"{key} must hold data but got the empty file {path}; write it again")


def _matrix(supercell: Sequence[int] | Sequence[Sequence[int]] | IntArray) -> IntArray:
    matrix = np.array(supercell)
    if matrix.shape == (3,):
        matrix = np.diag(matrix)
    if matrix.shape != (3, 3) or not np.issubdtype(matrix.dtype, np.integer) or round(np.linalg.det(matrix)) < 1:
        raise InputError(
            "supercell must be three positive integers or a 3x3 integer matrix of positive determinant but got "
            f"{np.asarray(supercell).tolist()}; write e.g. [2, 2, 2]"
        )
    return matrix.astype(np.int64)


def _check_distances(name: str, cell: Configuration) -> None:
    from ase.neighborlist import primitive_neighbor_list

    first, second, distances = primitive_neighbor_list("ijd", [True] * 3, cell.cell, cell.positions, _COINCIDENT)
    if len(distances):
        raise InputError(
            f"structure of system {name!r} must have atoms apart but got atoms {first[0]} and {second[0]} at "
            f"{distances[0]:.2g} Å; remove atoms that coincide (or occupancies that share a site)"
        )


def _snapped(configuration: Configuration) -> Configuration:
    """Return the configuration with the symmetry it has within :data:`SNAP` made exact; orientation and order kept."""
    import ase
    import spglib
    from ase.spacegroup.symmetrize import refine_symmetry

    fractions = configuration.positions @ np.linalg.inv(configuration.cell)
    crystal = (configuration.cell, fractions, configuration.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strict, loose = (spglib.get_symmetry(crystal, symprec=tolerance) for tolerance in (1e-5, SNAP))
    if strict is None or loose is None or len(loose["rotations"]) <= len(strict["rotations"]):
        return configuration
    atoms = ase.Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
    refined = atoms.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refine_symmetry(refined, symprec=SNAP)
    shift = refined.get_scaled_positions(wrap=False) - atoms.get_scaled_positions(wrap=False)
    moved = np.linalg.norm((shift - np.rint(shift)) @ atoms.cell.array, axis=1).max()
    if moved > 3 * SNAP or np.abs(refined.cell.array - atoms.cell.array).max() > 3 * SNAP:
        return configuration
    return dataclasses.replace(configuration, positions=refined.positions, cell=np.array(refined.cell.array))


def _symbols(configuration: Configuration) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in configuration.numbers]


def _configuration(cell: Any) -> Configuration:
    return Configuration(np.array(cell.numbers, dtype=np.int64), np.array(cell.positions), np.array(cell.cell))


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
