"""The default model: what the normal modes explain, and a network, each where it is the better one."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.graphs.displacements import same_atoms
from activeph.models.base import Predictor, read_arrays
from activeph.models.calibration import recalibrated
from activeph.models.experts import Experts, judge_experts
from activeph.models.gnn import GnnSettings
from activeph.models.modes import ModesFit, ModesPredictor, fit_modes, read_fit, write_fit
from activeph.models.scaling import fit_scaling, sketch
from activeph.records import Block, Dataset, FloatArray, IntArray, Prediction, System
from activeph.section import Section

LEAST_EXPANDED = 3  # labels of a system: with two the expansion errs more than with one, and the network a fifth of it


class ModesGnnModel(Section):
    """Mode expansion of every system that has force constants, and a network across all systems.

    The network learns each target twice: whole, and what the expansion leaves of it (leave-one-out errors, so that
    nothing is learned from labels that the expansion has seen). Per target, the expansion alone, corrected by the
    network, and the network alone are averaged with weights from their errors on the members' held-out labels. A
    system without force constants, with labels of other atoms than its supercell's (disorder) or with one or two
    labels is the network's alone.
    """

    kind: Literal["modes-gnn"] = "modes-gnn"
    members: int = Field(5, ge=1)
    """Members of the ensemble; their spread is the uncertainty."""
    gnn: GnnSettings = GnnSettings()
    """The network and its training."""
    features: int = Field(64, ge=1)
    """Width of the sketched features that selectors compare."""

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member; see :class:`activeph.models.base.Model`."""
        from activeph.models.network import fit_network

        known = _with_modes(systems, dataset)
        modes = fit_modes(dataset, known, seed) if any(block.system in known for block in dataset.blocks) else None
        left_over = modes.left_over(dataset) if modes else dataset.targets
        both = replace(dataset, targets=np.concatenate([dataset.targets, left_over], axis=1))
        earlier = read_member(warm).network if warm is not None else None
        units = np.tile(fit_scaling(dataset).scale, 2)
        network = fit_network(self.gnn, both, systems, seed, earlier, units)
        deviations = modes.deviations(dataset) if modes else np.full(dataset.targets.shape, np.nan)
        return write_member(Member(modes, network, deviations, modes.left_out(dataset) if modes else None))

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> ModesGnnPredictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        from activeph.models.network import load_networks
        from activeph.models.network_state import read_state

        if not states:
            raise InputError("an ensemble must have at least one member but got none; train it first.")
        members = [read_member(state) for state in states]
        fits = [member.modes for member in members if member.modes is not None]
        known = {name: system for name, system in systems.items() if fits and name in fits[0].systems}
        networks = [member.network for member in members]
        return ModesGnnPredictor(
            ModesPredictor(fits, known, self.features) if fits else None,
            load_networks(self.gnn, networks, systems, self.features, recalibrated=False),
            judge_experts([read_state(network) for network in networks], members[0].deviations, members[0].left_out),
            known,
            self.features,
        )

    def trained_network(self, state: bytes) -> tuple[GnnSettings, bytes]:
        """Return a member's network, without the expansion; see :class:`activeph.models.calculator.WithNetworks`."""
        return self.gnn, read_member(state).network

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return how the network's training went; see :class:`activeph.models.base.Traced`."""
        from activeph.models.network_state import learning_curve

        return learning_curve(read_member(state).network)


class ModesGnnPredictor:
    """Experts averaged with the weights of the whole ensemble, member by member."""

    def __init__(
        self,
        modes: ModesPredictor | None,
        networks: Predictor,
        experts: Experts,
        known: Mapping[str, System],
        width: int,
    ) -> None:
        self._modes = modes
        self._networks = networks
        self._experts = experts
        self._known = known
        self._width = width

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        from activeph.graphs.batch import slice_block

        network = self._networks.predict(block)
        whole = network.members[..., : self._experts.weights.shape[1]]
        members = recalibrated(whole, self._experts.network)
        if self._modes is None:
            return Prediction(members, network.features, network.scale[: whole.shape[2]])
        places = np.zeros((len(block), self._width))
        rows = self._expanded(block)
        if len(rows):
            expansion = self._modes.predict(slice_block(block, rows))
            members[:, rows] = self._experts.mix(expansion.members, network.members[:, rows])
            places[rows] = expansion.features
        return Prediction(members, sketch([places, network.features], self._width), self._modes.scale)

    def _expanded(self, block: Block) -> IntArray:
        """Return the configurations that the expansion can say something of; the others are the network's alone."""
        if block.system not in self._known:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(same_atoms(block, self._known[block.system]))


@dataclass(frozen=True, eq=False)
class Member:
    """One member: the expansion (if any system has modes), the network's state, and what they are judged by."""

    modes: ModesFit | None
    network: bytes
    deviations: FloatArray  # [S, P] that the expansion expects of its left-out errors, NaN where it says nothing
    left_out: FloatArray | None  # [S, P] what expansions that have not seen a label leave of it


def write_member(member: Member) -> bytes:
    """Return a member as bytes (an npz archive)."""
    buffer = io.BytesIO()
    modes = np.frombuffer(write_fit(member.modes) if member.modes else b"", dtype=np.uint8)
    known: dict[str, Any] = {} if member.left_out is None else {"left_out": member.left_out}
    network = np.frombuffer(member.network, dtype=np.uint8)
    np.savez(buffer, modes=modes, network=network, deviations=member.deviations, **known)
    return buffer.getvalue()


def read_member(state: bytes) -> Member:
    """Return a member from its bytes."""
    names = ("modes", "network", "deviations")
    arrays = read_arrays(state, *names)
    modes, network, deviations = (arrays[name] for name in names)
    left_out = arrays.get("left_out")  # earlier members lack it
    return Member(read_fit(modes.tobytes()) if len(modes) else None, network.tobytes(), deviations, left_out)


def _with_modes(systems: Mapping[str, System], dataset: Dataset) -> dict[str, System]:
    """Return the systems whose labels all are displaced copies of a supercell with force constants.

    One with few labels is left out: through a single one the expansion passes, and would be believed for that.
    """
    known = {name: system for name, system in systems.items() if system.force_constants is not None}
    blocks = (block for block in dataset.blocks if block.system in known)
    strange = {
        block.system
        for block in blocks
        if len(block) < LEAST_EXPANDED or not np.all(same_atoms(block, known[block.system]))
    }
    return {name: system for name, system in known.items() if name not in strange}
