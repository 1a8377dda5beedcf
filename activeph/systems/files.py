"""phonopy's files: force constants in, systems out."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from activeph.errors import InputError
from activeph.phonons.fit import ForceConstantFit, exchanged
from activeph.phonons.transfer import matched_sites, shared_cell, transferred
from activeph.records import FloatArray, System
from activeph.systems.examination import Examination, other_masses
from activeph.systems.load import check_file, compact, new_phonopy, phonopy_of, system_of

_COMPANIONS = ("phonopy_disp.yaml", "phonopy.yaml", "phonopy_params.yaml")


def read_force_constants(system: System, path: Path) -> System:
    """Return the system with the force constants of a phonopy file; see :func:`examined_force_constants`."""
    return _adopted(system, _read_or_refuse(system, path)[0])


def examined_force_constants(system: System, path: Path) -> tuple[System, Examination]:
    """Return the system with the force constants of a phonopy file, and what there is to say of them.

    They may have been computed in any supercell of the crystal. The kind of file is told by its content. FORCE_SETS,
    FORCE_CONSTANTS and force_constants.hdf5 do not say which cell and units they belong to: a phonopy yaml beside them
    does, else they are taken to be of the system's own supercell, in eV and Å. The acoustic sum rule and the order of
    atoms are imposed; Born charges are kept where the file, or a file BORN beside it as phonopy reads, has them.

    Raises:
        InputError: an unreadable file, or one of another crystal.
    """
    phonon, sum_rule, permutation = _read_or_refuse(system, path)
    found, n_atoms = _adopted(system, phonon), len(phonon.supercell)
    source = system_of(system.name, phonon)
    assert source.force_constants is not None
    fit = ForceConstantFit(source)
    distance = source.force_constants - fit.constants(fit.parameters(source.force_constants))
    return found, Examination(
        atoms=n_atoms,
        transfer=_relation(source, system),
        polar=found.born_charges is not None,
        sum_rule=sum_rule,
        permutation=permutation,
        space_group=float(np.abs(distance).max() / np.abs(source.force_constants).max()),
        masses=other_masses(source, system),
        stated=_kind(path) == "yaml" or _companion(path) is not None,
    )


def _relation(source: System, system: System) -> str:
    if _same_supercell(source, system):
        return "same"
    repeats = source.supercell.cell @ np.linalg.inv(system.supercell.cell)
    return "folded" if np.allclose(repeats, np.rint(repeats), atol=0.02) else "interpolated"


def _read_or_refuse(system: System, path: Path) -> tuple[Any, float, float]:
    check_file(path, "force_constants")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return _read(system, path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"force_constants must be a phonopy file for this supercell but got {path} ({_reason(error)}); give "
            "phonopy_params.yaml, FORCE_SETS, FORCE_CONSTANTS or force_constants.hdf5, which phonopy makes of any "
            "code's output, and the phonopy.yaml of their calculation beside the last three"
        ) from error


def write_phonopy(system: System, path: Path) -> None:
    """Write a phonopy_params.yaml that ``phonopy-load`` reads: cells, force constants, Born charges. Atomic."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    phonopy_of(system).save(beside, settings={"force_constants": system.force_constants is not None})
    os.replace(beside, path)


def read_phonopy(name: str, path: Path) -> System:
    """Return the system that :func:`write_phonopy` wrote, from that file alone."""
    check_file(path, "phonopy file")
    return system_of(name, _phonopy_yaml(path)[0])


def _read(system: System, path: Path) -> tuple[Any, float, float]:
    """Return a phonopy object in Å and eV with symmetrised force constants, and how far they were from it."""
    from phonopy import file_IO
    from phonopy.physical_units import get_calculator_physical_units

    kind = _kind(path)
    if kind == "yaml":
        phonon, unit = _phonopy_yaml(path)
        if phonon.force_constants is None:
            _solve(phonon, path)
    else:
        companion = _companion(path)
        phonon, unit = _phonopy_yaml(companion) if companion else (phonopy_of(_bare(system)), "eV/angstrom^2")
        if kind == "sets":
            phonon.dataset = file_IO.parse_FORCE_SETS(path, natom=len(phonon.supercell))
            _solve(phonon, path)
        elif kind == "hdf5":
            constants, own = file_IO.read_force_constants_hdf5(
                path, p2s_map=phonon.primitive.p2s_map, return_physical_unit=True
            )
            unit = own or unit
            _set(phonon, constants, path)
        else:
            _set(phonon, file_IO.parse_FORCE_CONSTANTS(path, p2s_map=phonon.primitive.p2s_map), path)
    born = path.with_name("BORN")
    if phonon.nac_params is None and born.exists():
        factor = get_calculator_physical_units(phonon.calculator).nac_factor
        try:
            phonon.nac_params = {"factor": factor, **file_IO.parse_BORN(phonon.primitive, filename=born)}
        except Exception as error:
            raise InputError(
                f"BORN must hold Born charges and dielectric constants as phonopy reads them but got {born} "
                f"({_reason(error)}); write it again with phonopy-vasp-born or the like, or remove it"
            ) from error
    return _in_electronvolt(phonon, unit)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):  # phonopy skips the lines that a torn file lacks, one call each
        return "it ends too early"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _adopted(system: System, phonon: Any) -> System:
    """Return ``system`` with what a phonopy object in Å and eV knows of its forces."""
    source = system_of(system.name, phonon)
    born = dielectric = None
    if phonon.nac_params is not None:
        sites = matched_sites(source, system)
        born, dielectric = np.array(phonon.nac_params["born"])[sites], np.array(phonon.nac_params["dielectric"])
        if not _same_supercell(source, system):
            source = _polar_interpolated(source, phonon, system)
    return dataclasses.replace(
        system, force_constants=transferred(source, system), born_charges=born, dielectric=dielectric
    )


def _polar_interpolated(source: System, phonon: Any, target: System) -> System:
    """Return a polar crystal in the target's supercell: what is short-ranged interpolated, dipole-dipole part apart.

    Counted in primitive vectors, in which the supercells of all choices of unit cell are whole numbers.
    """
    from phonopy.structure.atoms import PhonopyAtoms

    cell, sites = shared_cell(source, target), matched_sites(source, target)
    own, wanted = (np.rint(one.supercell.cell @ np.linalg.inv(cell)).astype(int).T for one in (source, target))
    atoms = source.primitive_atoms[sites]
    crystal = PhonopyAtoms(
        numbers=source.supercell.numbers[atoms],
        masses=source.masses[atoms],
        cell=cell,
        positions=source.supercell.positions[atoms],
    )
    primitive = new_phonopy(crystal, own, np.eye(3))
    primitive.force_constants = transferred(source, system_of(source.name, primitive))
    primitive.nac_params = {**phonon.nac_params, "born": np.array(phonon.nac_params["born"])[sites]}
    return system_of(source.name, primitive.ph2ph(wanted, with_nac=True))


def _same_supercell(source: System, target: System) -> bool:
    relation = np.linalg.inv(source.supercell.cell) @ target.supercell.cell
    return len(source.masses) == len(target.masses) and np.allclose(relation, np.eye(3), atol=0.02)


def _companion(path: Path) -> Path | None:
    """Return the phonopy yaml beside a file that does not say its cell itself."""
    return next((path.with_name(name) for name in _COMPANIONS if path.with_name(name).exists()), None)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x89HDF"):
        return "hdf5"
    if path.suffix in {".yaml", ".yml", ".xz", ".gz"}:
        return "yaml"
    lines = [line.split() for line in head.decode("utf-8", errors="replace").splitlines() if line.strip()]
    numeric = all(_is_number(word) for word in lines[0]) if lines else False
    if numeric and len(lines[0]) == 6:
        return "sets"
    if numeric and len(lines) > 1 and len(lines[0]) <= 2:
        return "sets" if len(lines[0]) == 1 and len(lines[1]) == 1 else "constants"
    return "yaml"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _phonopy_yaml(path: Path) -> tuple[Any, str]:
    """Return the phonopy object of a yaml file and the unit of its force constants. Nothing else on disk is read."""
    from phonopy.interface.phonopy_yaml import PhonopyYaml
    from phonopy.physical_units import get_calculator_physical_units

    document = PhonopyYaml()
    document.read(path)
    if document.unitcell is None:
        raise InputError(f"force_constants must be a phonopy file but got {path} without a unit cell; write it again")
    primitive = "auto" if document.primitive_matrix is None else document.primitive_matrix
    phonon = new_phonopy(document.unitcell, document.supercell_matrix, primitive, document.calculator)
    phonon.dataset = document.dataset
    if document.force_constants is not None:
        _set(phonon, document.force_constants, path)
    if document.nac_params is not None:
        phonon.nac_params = document.nac_params
    return phonon, get_calculator_physical_units(document.calculator).force_constants_unit


def _solve(phonon: Any, path: Path) -> None:
    from phonopy.structure.dataset import forces_in_dataset

    if phonon.dataset is None or not forces_in_dataset(phonon.dataset):
        raise InputError(
            f"force_constants must hold force constants or forces but got neither in {path}; "
            "give phonopy_params.yaml, FORCE_SETS or FORCE_CONSTANTS"
        )
    if not np.isfinite(phonon.forces).all():
        raise InputError(f"forces in {path} must be finite but got nan or inf; write it again")
    phonon.produce_force_constants(calculate_full_force_constants=False, fc_calculator="symfc", show_drift=False)


def _set(phonon: Any, constants: FloatArray, path: Path) -> None:
    n_atoms, n_primitive = len(phonon.supercell), len(phonon.primitive)
    if constants.shape not in {(n_atoms, n_atoms, 3, 3), (n_primitive, n_atoms, 3, 3)}:
        raise InputError(
            f"force constants in {path} must have shape ({n_primitive} or {n_atoms}, {n_atoms}, 3, 3) for this "
            f"supercell but got {constants.shape}; put the phonopy.yaml of their calculation beside them"
        )
    if not np.isfinite(constants).all() or not np.any(constants):
        what = "zeros alone" if np.isfinite(constants).all() else "nan or inf"
        raise InputError(f"force constants in {path} must be finite and not all zero but got {what}; write it again")
    phonon.force_constants = constants


def _in_electronvolt(phonon: Any, unit: str) -> tuple[Any, float, float]:
    """Return the object in Å and eV/Å², its force constants compact and symmetrised, and what they missed before."""
    from phonopy.interface.calculator import get_force_constant_conversion_factor
    from phonopy.physical_units import get_calculator_physical_units
    from phonopy.structure.atoms import PhonopyAtoms

    units = get_calculator_physical_units(phonon.calculator)
    old = phonon.unitcell
    cell = PhonopyAtoms(
        numbers=old.numbers,
        masses=old.masses,
        cell=old.cell * units.distance_to_A,
        scaled_positions=old.scaled_positions,
    )
    result = new_phonopy(cell, phonon.supercell_matrix, phonon.primitive_matrix)
    result.force_constants = compact(phonon) * get_force_constant_conversion_factor(unit, None)
    constants = np.array(result.force_constants)
    largest = max(float(np.abs(constants).max()), 1e-12)
    drift = float(np.abs(constants.sum(axis=1)).max()) / largest
    difference = float(np.abs(constants - exchanged(system_of("read", result), constants)).max()) / largest
    result.symmetrize_force_constants(level=3, show_drift=False)
    if phonon.nac_params is not None:
        factor = get_calculator_physical_units(None).nac_factor
        result.nac_params = {**phonon.nac_params, "factor": factor}
    return result, drift, difference


def _bare(system: System) -> System:
    return dataclasses.replace(system, force_constants=None, born_charges=None, dielectric=None)
