"""An ensemble of trained networks, ready to score: on a CPU or a GPU, in batches that fit there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from activeph.errors import InputError
from activeph.graphs.batch import Graph, slice_block
from activeph.graphs.neighbours import CHUNK, NeighbourFinder
from activeph.models.calibration import Recalibration, recalibrated
from activeph.models.device import Batches
from activeph.models.graph_network import GraphNetwork
from activeph.models.scaling import Scaling, sketch
from activeph.records import Block, FloatArray, Prediction

ATOMS_ON_GPU = 40960  # of one batch there: 1024 structures of 40 atoms, enough to keep it busy


class Preparation(Protocol):
    """What a recipe for networks makes of configurations."""

    def read(self, block: Block, finder: NeighbourFinder, elements: Tensor) -> Graph:
        """Return what all members read of a block, computed once, on the device of ``elements``."""
        ...


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network. ``spread`` is the root mean square norm of its centred features on the training set.

    The network may know more targets than are shown; the scaling has those that are.
    """

    network: GraphNetwork
    elements: Tensor
    scaling: Scaling
    centre: FloatArray  # [F]
    spread: float


class NetworkPredictor:
    """An ensemble of networks that share one neighbour list per system."""

    def __init__(
        self,
        model: Preparation,
        members: Sequence[Member],
        finder: NeighbourFinder,
        width: int,
        recalibration: Recalibration,
    ) -> None:
        self._model = model
        self._recalibration = recalibration
        self._members = members
        self._finder = finder
        self._width = width
        self._batches: dict[int, Batches] = {}  # by number of atoms

    @property
    def device(self) -> torch.device:
        """Where the members compute."""
        return self._members[0].elements.device

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        self._check(block)
        parts = self._sizes(block.species.shape[1]).run(
            len(block), lambda rows: self._outputs(slice_block(block, rows))
        )
        n_targets = len(self._recalibration.factors)
        values = [np.zeros((len(self._members), 0, n_targets)), *(part[0] for part in parts)]
        features = [np.zeros((0, sum(len(one.centre) for one in self._members))), *(part[1] for part in parts)]
        return Prediction(
            recalibrated(np.concatenate(values, axis=1), self._recalibration),
            sketch([np.concatenate(features)], self._width),
            np.mean([member.scaling.scale for member in self._members], axis=0),
        )

    def _sizes(self, n_atoms: int) -> Batches:
        """Return the batches for structures of a size; what did not fit once is not tried again."""
        if n_atoms not in self._batches:
            on_gpu = self.device.type != "cpu"
            self._batches[n_atoms] = Batches(ATOMS_ON_GPU // n_atoms if on_gpu else CHUNK)
        return self._batches[n_atoms]

    def _check(self, block: Block) -> None:
        elements = self._members[0].elements.tolist()
        unknown = sorted(set(np.unique(block.species).tolist()) - set(elements))
        if unknown:
            raise InputError(
                f"configurations must have elements that the ensemble was trained for ({elements}) "
                f"but got atomic numbers {unknown}; train it with them."
            )

    @torch.no_grad()
    def _outputs(self, part: Block) -> tuple[FloatArray, FloatArray]:
        """Return members' values [K, B, P] in the targets' units and their features [B, K F]."""
        graph = self._model.read(part, self._finder, self._members[0].elements)
        values, features = [], []
        for member in self._members:
            scaled, last = (tensor.double().cpu().numpy() for tensor in member.network(graph))
            values.append(member.scaling.backward(part, scaled[:, : len(member.scaling.scale)]))
            features.append((last - member.centre) / member.spread)
        return np.stack(values), np.concatenate(features, axis=1)
