"""The default model: what the normal modes explain, plus a network that learns what they leave."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.models.base import Predictor
from activeph.models.gnn import GnnSettings
from activeph.models.modes import ModesFit, ModesPredictor, fit_modes, read_fit, write_fit
from activeph.models.scaling import sketch
from activeph.records import Block, Dataset, Prediction, System
from activeph.section import Section


class ModesGnnModel(Section):
    """Mode expansion of every system that has force constants; a network across all systems for the rest.

    The network is trained on leave-one-out errors of the expansion and starts from zero, so that it speaks only where
    held-out labels say that it helps. A system without force constants is the network's alone.
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

        known = _with_modes(systems)
        modes = fit_modes(dataset, known, seed) if any(block.system in known for block in dataset.blocks) else None
        rest = replace(dataset, targets=modes.left_over(dataset) if modes else dataset.targets)
        network = fit_network(
            self.gnn, rest, systems, seed, _split(warm)[1] if warm is not None else None, modes is not None
        )
        return _join(modes, network)

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> ModesGnnPredictor:
        """Return the ensemble; see :class:`activeph.models.base.Model`."""
        from activeph.models.network import load_networks

        if not states:
            raise InputError("an ensemble must have at least one member but got none; train it first.")
        modes, networks = zip(*map(_split, states), strict=True)
        fits = [fit for fit in modes if fit is not None]
        known = _with_modes(systems)
        return ModesGnnPredictor(
            ModesPredictor(fits, known, self.features) if fits else None,
            load_networks(self.gnn, networks, systems, self.features),
            frozenset(name for name in known if fits and name in fits[0].systems),
            self.features,
        )


class ModesGnnPredictor:
    """The sum of both, member by member."""

    def __init__(self, modes: ModesPredictor | None, networks: Predictor, known: frozenset[str], width: int) -> None:
        self._modes = modes
        self._networks = networks
        self._known = known
        self._width = width

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        rest = self._networks.predict(block)
        if self._modes is None:
            return rest
        width = self._width
        if block.system not in self._known:
            away = np.zeros((len(block), width))
            return replace(rest, features=sketch([away, rest.features], width), scale=self._modes.scale)
        expansion = self._modes.predict(block)
        return Prediction(
            expansion.members + rest.members, sketch([expansion.features, rest.features], width), expansion.scale
        )


def _with_modes(systems: Mapping[str, System]) -> dict[str, System]:
    return {name: system for name, system in systems.items() if system.force_constants is not None}


def _join(modes: ModesFit | None, network: bytes) -> bytes:
    buffer = io.BytesIO()
    first = np.frombuffer(write_fit(modes) if modes else b"", dtype=np.uint8)
    np.savez(buffer, modes=first, network=np.frombuffer(network, dtype=np.uint8))
    return buffer.getvalue()


def _split(state: bytes) -> tuple[ModesFit | None, bytes]:
    with np.load(io.BytesIO(state)) as arrays:
        modes = arrays["modes"].tobytes()
        return (read_fit(modes) if modes else None), arrays["network"].tobytes()
