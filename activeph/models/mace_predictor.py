"""A committee of MACE networks, ready to score: targets, spread of the forces, invariant features."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from activeph.errors import InputError
from activeph.graphs.batch import slice_block
from activeph.graphs.neighbours import NeighbourFinder
from activeph.models.calibration import recalibrate_ensemble, recalibrated
from activeph.models.device import Batches, pick_device
from activeph.models.mace_batch import Data, Layout, block_data, evaluate
from activeph.models.mace_data import VOIGT, atom_sums
from activeph.models.mace_network import DTYPES, invariant_columns, restore_network, unpack
from activeph.models.mace_targets import targets_of
from activeph.models.scaling import sketch
from activeph.records import Block, FloatArray, Prediction, System

if TYPE_CHECKING:
    from activeph.models.mace import MaceModel

BATCH_CPU, BATCH_GPU = 8, 256  # small ones stay in the cache; many are needed to fill a GPU


@dataclass(frozen=True, eq=False)
class Answers:
    """What one network says of B structures, in double precision."""

    energies: FloatArray  # [B] eV
    forces: FloatArray  # [B, N, 3] eV/Å
    stresses: FloatArray  # [B, 6] eV/Å³
    features: FloatArray  # [B, F]


class Member:
    """One trained network on its device."""

    def __init__(self, record: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> None:
        head = len(record["architecture"]["heads"]) - 1  # replayed heads stand before
        self.layout = Layout(tuple(record["elements"]), head, dtype, device)
        self.cutoff = float(record["architecture"]["r_max"])
        self._atoms: FloatArray = record["atoms"].numpy()[head]
        self._network = restore_network(record, dtype).to(device)
        self._columns = invariant_columns(record["architecture"])

    def answer(self, block: Block, data: Data, derivatives: bool = True) -> Answers:
        """Return what the network says of a block, given as tensors too."""
        out = evaluate(self._network, data, training=False, derivatives=derivatives)
        found = {name: value.detach().double().cpu().numpy() for name, value in out.items() if name != "features"}
        return Answers(
            found["energy"] + atom_sums(block.species, self._atoms, self.layout.elements),
            found["forces"].reshape(block.positions.shape),
            np.stack([found["stress"][:, i, j] for i, j in VOIGT], axis=1),
            self._features(out["features"].detach(), data),
        )

    def _features(self, nodes: Tensor, data: Data) -> FloatArray:
        """Return the invariant features, averaged over the atoms of each element [B, Z F]."""
        n_structures, n_elements = len(data["ptr"]) - 1, len(self.layout.elements)
        slots = data["batch"] * n_elements + data["node_attrs"].argmax(dim=1)
        invariant = nodes[:, self._columns].double()
        sums = invariant.new_zeros(n_structures * n_elements, len(self._columns)).index_add(0, slots, invariant)
        counts = torch.bincount(slots, minlength=n_structures * n_elements).clamp(min=1)
        return np.asarray((sums / counts[:, None]).reshape(n_structures, -1).cpu().numpy())


class MacePredictor:
    """Members that share one neighbour list per system."""

    def __init__(self, model: MaceModel, states: Sequence[bytes], systems: Mapping[str, System]) -> None:
        self._model = model
        device = pick_device(model.device)
        loaded = [_member(state, DTYPES[model.dtype], device) for state in states]
        records = self._records = [record for record, _ in loaded]
        self._members = [member for _, member in loaded]
        self._finder = NeighbourFinder(systems, self._members[0].cutoff)
        self._recalibration = recalibrate_ensemble(records, with_seen=True)
        self._names: tuple[str, ...] = tuple(records[0]["target_names"])
        self._derivatives = model.score == "forces" or self._names != ("energy_per_atom",)
        self._batches = Batches(BATCH_GPU if device.type == "cuda" else BATCH_CPU)

    def predict(self, block: Block) -> Prediction:
        """Return members' targets, features and spread of every configuration. Raises InputError for a new element."""
        known = self._members[0].layout.elements
        unknown = sorted(set(np.unique(block.species).tolist()) - set(known))
        if unknown:
            raise InputError(
                f"configurations must have elements that the committee was trained for ({list(known)}) "
                f"but got atomic numbers {unknown}; train it with them."
            )
        parts = self._batches.run(len(block), lambda rows: self._score(slice_block(block, rows)))
        members = np.concatenate([values for values, _, _ in parts], axis=1)
        return Prediction(
            recalibrated(members, self._recalibration),
            np.concatenate([features for _, features, _ in parts]),
            np.mean([record["scale"].numpy() for record in self._records], axis=0),
            np.concatenate([spread for _, _, spread in parts]) if self._model.score == "forces" else None,
        )

    def answers(self, block: Block) -> list[Answers]:
        """Return what every member says of a small block."""
        data = block_data(block, self._finder, self._members[0].layout)
        return [own.answer(block, data, self._derivatives) for own in self._members]

    def _score(self, block: Block) -> tuple[FloatArray, FloatArray, FloatArray]:
        answers = self.answers(block)
        values = np.stack([targets_of(block, self._names, own.energies, own.forces, own.stresses) for own in answers])
        features = [
            (own.features - record["centre"].numpy()) / record["spread"]
            for own, record in zip(answers, self._records, strict=True)
        ]
        return values, sketch(features, self._model.features).astype(np.float64), self._force_spread(answers)

    def _force_spread(self, answers: Sequence[Answers]) -> FloatArray:
        """Return the members' deviation in force, root mean square over atoms, in units of the labelled forces [B]."""
        forces = np.stack([own.forces for own in answers])
        if len(forces) == 1:
            return np.zeros(forces.shape[1])
        unit = float(np.mean([record["units"][1] for record in self._records]))
        return np.asarray(np.sqrt(np.mean(np.var(forces, axis=0, ddof=1), axis=(1, 2))) / unit)


def load_mace(model: MaceModel, states: Sequence[bytes], systems: Mapping[str, System]) -> MacePredictor:
    """Return the committee made of members' states."""
    if not states:
        raise InputError("an ensemble must have at least one member but got none; train it first.")
    return MacePredictor(model, states, systems)


@functools.lru_cache(maxsize=16)
def _member(state: bytes, dtype: torch.dtype, device: torch.device) -> tuple[dict[str, Any], Member]:
    """Return a state's record and network, kept between calls: building one costs as much as scoring 100 cells."""
    record = unpack(state)
    return record, Member(record, dtype, device)
