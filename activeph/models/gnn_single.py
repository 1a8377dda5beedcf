"""The property network with error bars at the cost of one network, instead of an ensemble."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.models.base import Predictor, read_arrays
from activeph.models.gnn import GnnSettings
from activeph.models.last_layer import (
    NAMES,
    LastLayer,
    fit_posterior_layer,
    heads_layer,
    read_last_layer,
    with_constant,
    write_last_layer,
)
from activeph.models.scaling import fit_scaling, sketch
from activeph.records import Block, Dataset, FloatArray, Prediction, System

if TYPE_CHECKING:
    from torch import Tensor

    from activeph.models.graph_network import GraphNetwork

EVERY_FEATURE = 1_000_000  # wider than any network's last layer: features as they are


class SingleNetworkModel(GnnSettings):
    """One network, and a distribution of its last layer. Error bars are recalibrated on its held-out labels."""

    features: int = Field(64, ge=1)
    """Width of the sketched features that selectors compare."""

    @property
    def members(self) -> int:
        """One network is trained."""
        return 1

    @property
    @abstractmethod
    def opinions(self) -> int:
        """Members of a prediction."""

    @abstractmethod
    def last_layer(self, network: bytes, features: FloatArray, errors: FloatArray, seed: int) -> LastLayer:
        """Return the last layer of a trained network.

        ``features`` [S, 1 + F] and scaled ``errors`` [S, P] are those of the labels that it was trained on.
        """

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train the network and its last layer; see :class:`activeph.models.base.Model`."""
        import torch

        from activeph.models.network import fit_network, held_out_predictions, load_networks

        earlier = _read(warm)["network"].tobytes() if warm is not None else None
        network = fit_network(self, dataset, systems, seed, earlier)
        with torch.random.fork_rng(devices=[]):  # a network is drawn before its weights are read
            predictor = load_networks(self, [network], systems, EVERY_FEATURE)
        parts = [predictor.predict(block) for block in dataset.blocks]
        features = with_constant(np.concatenate([np.asarray(part.features, dtype=np.float64) for part in parts]))
        scale = fit_scaling(dataset).scale
        errors = (dataset.targets - np.concatenate([part.members[0] for part in parts])) / scale
        out, _ = held_out_predictions(network)
        trained = np.setdiff1d(np.arange(len(dataset)), out)
        layer = self.last_layer(network, features[trained], errors[trained], seed)
        layer = layer.recalibrated(features[out], errors[out], errors[trained])
        buffer = io.BytesIO()
        np.savez(buffer, network=np.frombuffer(network, dtype=np.uint8), scale=scale, **write_last_layer(layer))
        return buffer.getvalue()

    def trained_network(self, state: bytes) -> tuple[GnnSettings, bytes]:
        """Return a member's network; see :class:`activeph.models.calculator.WithNetworks`."""
        return self, _read(state)["network"].tobytes()

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return how the network's training went; see :class:`activeph.models.base.Traced`."""
        from activeph.models.network_state import learning_curve

        return learning_curve(_read(state)["network"].tobytes())

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> Predictor:
        """Return the predictor; further states, of the same settings, are more networks to average."""
        from activeph.models.network import load_networks

        if not states:
            raise InputError("an ensemble must have at least one member but got none; train it first.")
        records = [_read(state) for state in states]
        networks = [load_networks(self, [one["network"].tobytes()], systems, EVERY_FEATURE) for one in records]
        layers = [read_last_layer([one[name] for name in NAMES]) for one in records]
        return SinglePredictor(networks, layers, records[0]["scale"], self.features)


class SinglePredictor:
    """Members are what the last layer's distribution adds to the network; several networks stand side by side."""

    def __init__(
        self, networks: Sequence[Predictor], layers: Sequence[LastLayer], scale: FloatArray, width: int
    ) -> None:
        self._networks = networks
        self._layers = layers
        self._scale = scale
        self._width = width

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        members, features = [], []
        for network, layer in zip(self._networks, self._layers, strict=True):
            prediction = network.predict(block)
            own = np.asarray(prediction.features, dtype=np.float64)
            members.append(prediction.members[0] + self._scale * layer.members(with_constant(own)))
            features.append(own)
        return replace(
            prediction, members=np.concatenate(members), features=sketch(features, self._width), scale=self._scale
        )


class PosteriorGnnModel(SingleNetworkModel):
    """The network of kind gnn with the posterior of its last layer as uncertainty (Bayesian linear regression)."""

    kind: Literal["gnn-posterior"] = "gnn-posterior"
    draws: int = Field(8, ge=2)
    """Draws from the posterior that a prediction is made of; the spread is exact whatever their number."""

    @property
    def opinions(self) -> int:
        """Members of a prediction."""
        return self.draws

    def last_layer(self, network: bytes, features: FloatArray, errors: FloatArray, seed: int) -> LastLayer:
        """Return draws from the posterior."""
        return fit_posterior_layer(features, errors, self.draws, seed)


class HeadsGnnModel(SingleNetworkModel):
    """A shallow ensemble: the network of kind gnn with many heads, trained together so that their spread is right."""

    kind: Literal["gnn-heads"] = "gnn-heads"
    heads: int = Field(16, ge=3)
    """Heads; their spread is the uncertainty."""

    @property
    def opinions(self) -> int:
        """Members of a prediction."""
        return self.heads

    def network(self, n_targets: int, elements: Tensor) -> GraphNetwork:
        """Return an untrained network with all its heads."""
        from activeph.models.shallow_ensemble import ShallowEnsemble

        size = (self.hidden, self.blocks, self.layers)
        return ShallowEnsemble(n_targets, elements, self.cutoff, self.radial, size, self.heads)

    def last_layer(self, network: bytes, features: FloatArray, errors: FloatArray, seed: int) -> LastLayer:
        """Return the heads as they were trained."""
        from activeph.models.network_state import read_state

        record = read_state(network)
        weights, biases = (record["network"][f"deviations.{name}"].double().numpy() for name in ("weight", "bias"))
        constant = biases + weights @ record["centre"].numpy()
        heads = np.concatenate([constant[:, None], weights * record["spread"]], axis=1)  # [K P', 1 + F]
        heads = heads.reshape(self.heads, -1, heads.shape[1])[:, : errors.shape[1]].transpose(0, 2, 1)
        return heads_layer(heads)


def _read(state: bytes) -> dict[str, Any]:
    return read_arrays(state, "network", "roots")
