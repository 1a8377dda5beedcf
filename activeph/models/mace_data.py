"""From labels to what MACE reads, and the proof that it read what was labelled.

The way is the one a user's file would go: structures named as ``activeph export`` names them, MACE's own reader of
such structures, MACE's own graphs. Then every number is compared with the label it came from, because MACE trains
silently on zeros where a key is missing, and on whatever sign and unit it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from activeph.errors import InputError
from activeph.models.mace_network import default_dtype, import_mace
from activeph.models.mace_targets import potential_targets, targets_of
from activeph.records import Block, Dataset, FloatArray, IntArray

CLOSE = 1e-9  # relative: both sides are the same double-precision numbers
MOST_PER_ATOM = (
    50.0  # eV: no crystal is bound this strongly, so energies this far from their atoms' sum are inconsistent
)
LABELS_TO_COMPARE = 8  # labels of one system from which energies and forces are compared
CLEAR, OPPOSITE = 0.7, -0.8  # correlations of energies and work; double wells can have weakly negative ones
MILD, STRONG = 0.08, 4.0  # bounds on the ratio of energies to the work of the forces
NET_FORCE = 0.2  # of the typical force on an atom
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # xx, yy, zz, yz, xz, xy


def read_by_mace(
    structures: Sequence[Any], elements: Sequence[int], cutoff: float, heads: Sequence[str], head: str
) -> list[Any]:
    """Return one MACE graph (double precision) per ASE structure, read by MACE under its ``REF_`` keys."""
    import_mace()
    from mace.data import AtomicData, KeySpecification, config_from_atoms
    from mace.tools import AtomicNumberTable

    keys = KeySpecification.from_defaults()
    table = AtomicNumberTable([int(number) for number in elements])
    with default_dtype(torch.float64):
        configurations = [config_from_atoms(atoms, key_specification=keys, head_name=head) for atoms in structures]
        return [AtomicData.from_config(one, z_table=table, cutoff=cutoff, heads=list(heads)) for one in configurations]


def labelled_structures(dataset: Dataset) -> list[Any]:
    """Return the labels as ASE structures that carry what ``activeph export`` writes; free of constraints."""
    from ase import Atoms

    result: list[Any] = []
    for block, forces in zip(dataset.blocks, dataset.forces, strict=True):
        for row in range(len(block)):
            atoms = Atoms(block.species[row], block.positions[row], cell=block.cells[row], pbc=True)
            atoms.info["REF_energy"] = float(dataset.energies[len(result)])
            if np.all(np.isfinite(dataset.stresses[len(result)])):
                atoms.info["REF_stress"] = dataset.stresses[len(result)]
            atoms.arrays["REF_forces"] = forces[row]
            result.append(atoms)
    return result


def bare_structures(path: Path) -> list[Any]:
    """Return the periodic structures of a file without what it says of them. Raises InputError where there are none."""
    import ase.io
    from ase import Atoms

    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:
        raise InputError(f"model.replay must hold structures that ASE reads but got {path} ({error})") from error
    usable = [atoms for atoms in frames if atoms.cell.volume > 1e-6]
    if not usable:
        raise InputError(f"model.replay must hold periodic structures but got none in {path}; give another file.")
    return [Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True) for atoms in usable]


def check_reading(dataset: Dataset, graphs: Sequence[Any], elements: Sequence[int], with_stress: bool) -> None:
    """Raise InputError at the first number that MACE reads other than it was labelled, named with its label."""
    table = np.array(elements)
    rows = [(block, row, forces[row]) for block, forces in zip(dataset.blocks, dataset.forces, strict=True)
            for row in range(len(block))]  # fmt: skip
    if len(rows) != len(graphs):
        raise InputError(f"MACE must read all {len(rows)} labels but got {len(graphs)}; this is a fault in its reader.")
    for number, ((block, row, forces), graph) in enumerate(zip(rows, graphs, strict=True)):
        stress = dataset.stresses[number]
        pairs: dict[str, tuple[Any, Any]] = {
            "atomic numbers": (table[graph.node_attrs.argmax(dim=1).numpy()], block.species[row]),
            "positions (Å)": (graph.positions, block.positions[row]),
            "the cell (Å, vectors as rows)": (graph.cell, block.cells[row]),
            "the energy (REF_energy, eV)": (graph.energy, dataset.energies[number]),
            "forces (REF_forces, eV/Å)": (graph.forces, forces),
            "weights of energy and forces": ((graph.energy_weight, graph.forces_weight, graph.weight), (1, 1, 1)),
        }
        if with_stress:
            read = np.array([graph.stress[0, i, j] for i, j in VOIGT])
            pairs["the stress (REF_stress, eV/Å³, positive under tension, xx yy zz yz xz xy)"] = (read, stress)
            pairs["the weight of the stress"] = (graph.stress_weight, 1)
        for name, (got, labelled) in pairs.items():
            _compare(name, np.asarray(got, dtype=np.float64), np.asarray(labelled, dtype=np.float64), number)


def _compare(name: str, got: FloatArray, labelled: FloatArray, number: int) -> None:
    same = got.shape == labelled.shape
    if same and np.allclose(got, labelled, rtol=CLOSE, atol=CLOSE * float(np.max(np.abs(labelled), initial=0.0))):
        return
    where = int(np.argmax(np.abs(got - labelled))) if same else 0
    raise InputError(
        f"MACE must read {name} of label {number} as labelled, {labelled.ravel()[where]:.8g}, but got "
        f"{got.ravel()[where]:.8g}; correct the file or the code that the label came from."
    )


def check_labels(dataset: Dataset, with_stress: bool) -> None:
    """Raise InputError where labels contradict themselves: what is missing, fixed, of another sign or another unit."""
    learnable = potential_targets()
    unknown = [name for name in dataset.target_names if name not in learnable]
    if unknown:
        raise InputError(
            f"targets must be among {', '.join(learnable)} for kind mace but got {unknown[0]}; choose another model."
        )
    values: dict[str, list[FloatArray]] = {"energies": [dataset.energies], "forces": list(dataset.forces)}
    values |= {"stresses": [dataset.stresses]} if with_stress else {}
    for name, arrays in values.items():
        if not all(np.all(np.isfinite(array)) for array in arrays):
            remedy = "set model.stress_weight to 0" if name == "stresses" else "use a labeler that gives them"
            raise InputError(f"labels for kind mace must have finite {name} but got nan or inf; {remedy}.")
    start = 0
    for block, forces in zip(dataset.blocks, dataset.forces, strict=True):
        rows = slice(start, start + len(block))
        start += len(block)
        read = targets_of(block, dataset.target_names, dataset.energies[rows], forces, dataset.stresses[rows])
        _compare("the targets", read, dataset.targets[rows], rows.start)
        _check_constraints(block, forces)
        _check_work(block, forces, dataset.energies[rows])


def _check_constraints(block: Block, forces: FloatArray) -> None:
    """Refuse forces that a constraint took from some atoms (ASE's FixAtoms gives zeros) and left to the others.

    Symmetry makes zeros too, but the forces of a free crystal add up to nothing, those of a constrained one do not.
    """
    still = np.all(forces == 0, axis=(0, 2))
    net = np.sqrt(np.mean(np.sum(forces.sum(axis=1) ** 2, axis=1)))
    typical = np.sqrt(np.mean(np.sum(forces**2, axis=2)))
    if still.any() and not still.all() and net > NET_FORCE * typical:
        raise InputError(
            f"forces must be those of free atoms but got exactly zero for atoms {np.flatnonzero(still)[:5].tolist()} "
            f"in all {len(block)} labels of {block.system}; remove the constraint (FixAtoms) and label again."
        )


def _check_work(block: Block, forces: FloatArray, energies: FloatArray) -> None:
    """Refuse forces that are not minus the gradient of the energies, seen from the labels alone.

    Around equilibrium E = E₀ − ½ Σ F·u; anharmonicity changes the ratio of both sides, but hardly beyond a factor of
    three (0.3 to 0.85 for thermal draws of KBr and Ag3SBr), while a wrong unit or sign changes it by far more.
    """
    is_one_crystal = np.allclose(block.cells, block.cells[:1]) and np.all(block.species == block.species[:1])
    if len(block) < LABELS_TO_COMPARE or np.ptp(energies) < 1e-3 or not is_one_crystal:
        return
    fractional = (block.positions - block.positions[:1]) @ np.linalg.inv(block.cells[0])
    moved = (fractional - np.round(fractional)) @ block.cells[0]
    moved = moved - moved.mean(axis=1, keepdims=True)
    work = -0.5 * np.sum(forces * (moved - moved.mean(axis=0)), axis=(1, 2))
    if np.ptp(work) == 0:
        return
    correlation = float(np.corrcoef(work, energies)[0, 1])
    ratio = float(np.std(energies) / np.std(work))
    if correlation < OPPOSITE:
        raise InputError(
            f"forces must be minus the gradient of the energies but got the opposite sign in the labels of system "
            f"{block.system} (correlation {correlation:.2f} with the work done); correct the labels."
        )
    if correlation > CLEAR and not MILD < ratio < STRONG:
        raise InputError(
            f"energies must be in eV and forces in eV/Å but got energies that vary {ratio:.3g} times as much as the "
            f"work of the forces in the labels of system {block.system}; convert the labels."
        )


def atom_energies(species: Sequence[IntArray], energies: FloatArray, elements: Sequence[int]) -> FloatArray:
    """Return energies of atoms [Z] in eV whose sums come closest to total energies [S] (least squares, least norm)."""
    counts = _counts(species, elements)
    return np.asarray(np.linalg.pinv(counts, rcond=1e-9) @ energies)


def binding_energies(
    species: Sequence[IntArray], energies: FloatArray, elements: Sequence[int], atoms: FloatArray
) -> FloatArray:
    """Return energies [S] without those of the atoms (eV). Raises InputError where they do not belong together."""
    counts = _counts(species, elements)
    left = energies - counts @ atoms
    per_atom = left / counts.sum(axis=1)
    worst = int(np.argmax(np.abs(per_atom)))
    if abs(per_atom[worst]) > MOST_PER_ATOM:
        raise InputError(
            f"total energies must lie within {MOST_PER_ATOM:g} eV per atom of the energies of their atoms but got "
            f"{per_atom[worst]:.4g} for label {worst}; do all labels come from one code with one set of settings?"
        )
    return np.asarray(left)


def atom_sums(species: IntArray, atoms: FloatArray, elements: Sequence[int]) -> FloatArray:
    """Return the sums of the energies of atoms [Z] over configurations [B, N]."""
    return np.asarray(atoms[np.searchsorted(np.array(elements), species)].sum(axis=1))


def _counts(species: Sequence[IntArray], elements: Sequence[int]) -> FloatArray:
    table = np.array(elements)
    return np.array([np.sum(numbers[:, None] == table, axis=0) for numbers in species], dtype=np.float64)


def species_of(dataset: Dataset) -> list[IntArray]:
    """Return the atomic numbers of every label."""
    return [numbers for block in dataset.blocks for numbers in block.species]
