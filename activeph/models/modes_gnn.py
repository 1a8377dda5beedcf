"""The default model: what the normal modes explain, and a network, each where it is the better one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.graphs.displacements import same_atoms
from activeph.models.base import Predictor, unreadable
from activeph.models.gnn import GnnSettings
from activeph.models.modes import ModesFit, ModesPredictor, fit_modes, read_fit, write_fit
from activeph.models.scaling import fit_scaling, sketch
from activeph.records import Block, Dataset, FloatArray, IntArray, Prediction, System
from activeph.section import Section

DOUBT, N_IMAGINED = 1.5, 6  # by measurement at 25 labels, where members hold out a dozen


class ModesGnnModel(Section):
    """Mode expansion of every system that has force constants, and a network across all systems.

    The network learns each target twice: whole, and what the expansion leaves of it (leave-one-out errors, so that
    nothing is learned from labels that the expansion has seen). Per target, the expansion alone, corrected by the
    network, and the network alone are averaged with weights from their errors on the members' held-out labels. A
    system without force constants, or with labels of other atoms than its supercell's (disorder), is the network's
    alone.
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
        from activeph.models.network import fit_network, held_out_predictions

        known = _with_modes(systems, dataset)
        modes = fit_modes(dataset, known, seed) if any(block.system in known for block in dataset.blocks) else None
        left_over = modes.left_over(dataset) if modes else dataset.targets
        both = replace(dataset, targets=np.concatenate([dataset.targets, left_over], axis=1))
        earlier = read_member(warm).network if warm is not None else None
        units = np.tile(fit_scaling(dataset).scale, 2)
        network = fit_network(self.gnn, both, systems, seed, earlier, units)
        rows, guesses = held_out_predictions(network)
        expanded = np.concatenate([np.full(len(block), block.system in known) for block in dataset.blocks])[rows]
        errors = expert_errors(dataset.targets[rows][expanded], left_over[rows][expanded], guesses[expanded])
        return write_member(Member(modes, network, errors))

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> ModesGnnPredictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        from activeph.models.network import load_networks

        if not states:
            raise InputError("an ensemble must have at least one member but got none; train it first.")
        members = [read_member(state) for state in states]
        fits = [member.modes for member in members if member.modes is not None]
        known = {name: system for name, system in systems.items() if fits and name in fits[0].systems}
        return ModesGnnPredictor(
            ModesPredictor(fits, known, self.features) if fits else None,
            load_networks(self.gnn, [member.network for member in members], systems, self.features),
            expert_weights(np.concatenate([member.errors for member in members], axis=1)),
            known,
            self.features,
        )

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return how the network's training went; see :class:`activeph.models.base.Traced`."""
        from activeph.models.network_state import learning_curve

        return learning_curve(read_member(state).network)


def expert_errors(truth: FloatArray, left_over: FloatArray, guesses: FloatArray) -> FloatArray:
    """Return absolute errors [3, H, P] of expansion, corrected expansion and network on held-out labels.

    ``truth`` and ``left_over`` are [H, P], ``guesses`` [H, 2 P] what the network says of either.
    """
    whole, rest = np.split(guesses, 2, axis=1)
    return np.abs(np.stack([left_over, left_over - rest, truth - whole]))


def expert_weights(errors: FloatArray) -> FloatArray:
    """Return the weights [3, P] of the experts from their absolute errors [3, H, P].

    Inverse fourth powers of the means: near-equal experts are averaged, a clearly worse one is silent. The network
    must prove itself: its means include a few imagined errors larger than the expansion's, which weigh less the more
    labels are held out.
    """
    if errors.shape[1] == 0:
        return np.full((3, errors.shape[2]), 1 / 3)
    means = errors.mean(axis=1)
    n, doubted = errors.shape[1], DOUBT * means[0]
    means[1:] = (n * means[1:] + N_IMAGINED * doubted) / (n + N_IMAGINED)
    ratios = (means.min(axis=0) + 1e-12) / (means + 1e-12)
    return np.asarray(ratios**4 / (ratios**4).sum(axis=0))


class ModesGnnPredictor:
    """Experts averaged with the weights of the whole ensemble, member by member."""

    def __init__(
        self,
        modes: ModesPredictor | None,
        networks: Predictor,
        weights: FloatArray,
        known: Mapping[str, System],
        width: int,
    ) -> None:
        self._modes = modes
        self._networks = networks
        self._weights = weights
        self._known = known
        self._width = width

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        from activeph.graphs.batch import slice_block

        network = self._networks.predict(block)
        n_targets = self._weights.shape[1]
        whole, rest = network.members[..., :n_targets], network.members[..., n_targets:]
        if self._modes is None:
            return Prediction(whole, network.features, network.scale[:n_targets])
        places, members = np.zeros((len(block), self._width)), whole.copy()
        rows = self._expanded(block)
        if len(rows):
            expansion = self._modes.predict(slice_block(block, rows))
            alone, corrected, other = self._weights
            whole, rest = whole[:, rows], rest[:, rows]
            members[:, rows] = (alone + corrected) * expansion.members + corrected * rest + other * whole
            places[rows] = expansion.features
        return Prediction(members, sketch([places, network.features], self._width), self._modes.scale)

    def _expanded(self, block: Block) -> IntArray:
        """Return the configurations that the expansion can say something of; the others are the network's alone."""
        if block.system not in self._known:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(same_atoms(block, self._known[block.system]))


@dataclass(frozen=True, eq=False)
class Member:
    """One member: the expansion (if any system has modes), the network's state, and what it is judged by."""

    modes: ModesFit | None
    network: bytes
    errors: FloatArray  # [3, H, P] of the experts on held-out labels, absolute


def write_member(member: Member) -> bytes:
    """Return a member as bytes (an npz archive)."""
    buffer = io.BytesIO()
    modes = np.frombuffer(write_fit(member.modes) if member.modes else b"", dtype=np.uint8)
    np.savez(buffer, modes=modes, network=np.frombuffer(member.network, dtype=np.uint8), errors=member.errors)
    return buffer.getvalue()


def read_member(state: bytes) -> Member:
    """Return a member from its bytes."""
    try:
        with np.load(io.BytesIO(state)) as arrays:
            modes, network, errors = (arrays[name] for name in ("modes", "network", "errors"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(unreadable(str(error))) from None
    return Member(read_fit(modes.tobytes()) if len(modes) else None, network.tobytes(), errors)


def _with_modes(systems: Mapping[str, System], dataset: Dataset) -> dict[str, System]:
    """Return the systems whose labels all are displaced copies of a supercell with force constants."""
    known = {name: system for name, system in systems.items() if system.force_constants is not None}
    blocks = (block for block in dataset.blocks if block.system in known)
    strange = {block.system for block in blocks if not np.all(same_atoms(block, known[block.system]))}
    return {name: system for name, system in known.items() if name not in strange}
