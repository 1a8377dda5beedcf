"""Where the training of a MACE network starts: at random weights, at a foundation model, or at an earlier state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from activeph.models.device import Batches
from activeph.models.mace_batch import evaluate, join_graphs
from activeph.models.mace_data import (
    atom_energies,
    bare_structures,
    check_reading,
    labelled_structures,
    read_by_mace,
    species_of,
)
from activeph.models.mace_foundation import foundation_architecture, foundation_atoms, read_foundation, start_from
from activeph.models.mace_network import REPLAY_HEAD, build_network, restore_network
from activeph.models.mace_training import Lessons
from activeph.records import Dataset, FloatArray, IntArray, System

if TYPE_CHECKING:
    from activeph.models.mace import MaceModel

FITTED = ("avg_num_neighbors", "atomic_inter_scale", "atomic_inter_shift")  # parts of an architecture that data set
BATCH = 8


@dataclass(frozen=True, eq=False)
class Reading:
    """The labels as MACE reads them, checked, and what training may start from."""

    graphs: Sequence[Any]  # one per label, in the order of the dataset
    species: Sequence[IntArray]  # S arrays [N]
    energies: FloatArray  # [S] eV, whole cells
    plain_atoms: FloatArray  # [Z] eV, energies of atoms whose sums alone come closest to the energies
    elements: list[int]  # Z sorted atomic numbers
    architecture: dict[str, Any]
    foundation: Any
    replayed: Sequence[Any]  # graphs of the second head


@dataclass(frozen=True, eq=False)
class Start:
    """A network before training, energies of atoms of its heads [H, Z] in eV; the last head learns the labels."""

    network: torch.nn.Module
    architecture: dict[str, Any]
    atoms: FloatArray


def read_all(model: MaceModel, dataset: Dataset, systems: Mapping[str, System]) -> Reading:
    """Return labels, replayed structures and foundation model as MACE reads them; InputError where one is wrong."""
    species = species_of(dataset)
    needed = np.unique(np.concatenate([*(system.elements for system in systems.values()), *species]))
    foundation = read_foundation(model.foundation, model.foundation_head, needed) if model.foundation else None
    again = bare_structures(model.replay) if model.replay else []
    elements = np.unique(np.concatenate([needed, *(atoms.numbers for atoms in again)])).tolist()
    if model.foundation is None:
        architecture = model.architecture()
    else:
        read_foundation(model.foundation, model.foundation_head, elements)
        architecture = foundation_architecture(foundation, bool(again))
    heads, cutoff = architecture["heads"], architecture["r_max"]
    graphs = read_by_mace(labelled_structures(dataset), elements, cutoff, heads, heads[-1])
    check_reading(dataset, graphs, elements, model.stress_weight > 0)
    return Reading(
        graphs,
        species,
        dataset.energies,
        atom_energies(species, dataset.energies, elements),
        elements,
        architecture,
        foundation,
        read_by_mace(again, elements, cutoff, heads, REPLAY_HEAD),
    )


def fresh_start(reading: Reading, force_unit: float, dtype: torch.dtype, device: torch.device) -> Start:
    """Return random weights (of torch's current seed) scaled to the labels, or those of the foundation model."""
    words = dict(reading.architecture)
    if reading.foundation is None:
        neighbours = np.mean([graph.edge_index.shape[1] / len(graph.positions) for graph in reading.graphs])
        words |= {"avg_num_neighbors": float(neighbours), "atomic_inter_scale": [force_unit]}
        network = build_network(words, reading.elements, dtype).to(device)
        return Start(network, words, reading.plain_atoms[None])
    network = start_from(reading.foundation, words, reading.elements, dtype).to(device)
    bound = _answers(network, reading.graphs, dtype, device)["energy"].double().cpu().numpy()
    own = atom_energies(reading.species, reading.energies - bound, reading.elements)  # suits the code of the labels
    atoms = [own] if len(words["heads"]) == 1 else [foundation_atoms(reading.foundation, reading.elements), own]
    return Start(network, words, np.stack(atoms))


def later_start(
    reading: Reading, fresh: Start, earlier: Mapping[str, Any], dtype: torch.dtype, device: torch.device
) -> Start | None:
    """Return an earlier state's network, to be trained on; ``None`` where it has another architecture or elements."""
    words = earlier["architecture"]
    if earlier["elements"] != reading.elements or _fixed(words) != _fixed(fresh.architecture):
        return None
    network = restore_network(earlier, dtype).to(device).requires_grad_(True)
    return Start(network, words, earlier["atoms"].numpy())


def _fixed(words: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in words.items() if name not in FITTED}


def replayed_lessons(
    reading: Reading, fresh: Start, weight: float, dtype: torch.dtype, device: torch.device
) -> Lessons:
    """Return the replayed structures, labelled by the second head as long as it says what the foundation model says."""
    if not len(reading.replayed):
        return Lessons([], torch.zeros(0))
    said = _answers(fresh.network, reading.replayed, dtype, device)
    first = 0
    for number, graph in enumerate(reading.replayed):
        stop = first + len(graph.positions)
        graph.forces, graph.stress = (
            said["forces"][first:stop].double().cpu(),
            said["stress"][number][None].double().cpu(),
        )
        first = stop
    return Lessons(reading.replayed, said["energy"].double().cpu(), weight)


def _answers(
    network: torch.nn.Module, graphs: Sequence[Any], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    def work(rows: slice) -> dict[str, Tensor]:
        out = evaluate(network, join_graphs(graphs[rows], dtype, device), training=False)
        return {name: value.detach() for name, value in out.items()}

    parts = Batches(BATCH).run(len(graphs), work)
    return {name: torch.cat([part[name] for part in parts]) for name in ("energy", "forces", "stress")}
