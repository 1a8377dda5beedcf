"""Members that are torch networks: fitting, states as bytes, prediction in chunks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from activeph.errors import InputError
from activeph.graphs.batch import Graph, block_graph, slice_block
from activeph.graphs.neighbours import CHUNK, NeighbourFinder
from activeph.models.scaling import Scaling, fit_scaling, held_out, sketch
from activeph.models.training import Examples, Plan, Trained, train
from activeph.records import Block, Dataset, FloatArray, Prediction, System


class NetworkModel(Protocol):
    """What a recipe for networks must say."""

    @property
    def cutoff(self) -> float:
        """Distance in Å up to which atoms see each other."""
        ...

    @property
    def held_out(self) -> float:
        """Share of the labels that a member does not train on."""
        ...

    def plan(self, n_trained: int) -> Plan:
        """Return how to train on a number of labels."""
        ...

    def network(self, n_targets: int) -> nn.Module:
        """Return an untrained network: graph to scaled targets [S, P] and last-layer features [S, F]."""
        ...


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network. ``spread`` is the root mean square norm of its centred features on the training set."""

    network: nn.Module
    scaling: Scaling
    centre: FloatArray  # [F]
    spread: float


class NetworkPredictor:
    """An ensemble of networks that share one neighbour list per system."""

    def __init__(self, members: Sequence[Member], finder: NeighbourFinder, width: int) -> None:
        self._members = members
        self._finder = finder
        self._width = width

    @torch.no_grad()
    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        values: list[list[FloatArray]] = [[] for _ in self._members]
        features: list[list[FloatArray]] = [[] for _ in self._members]
        for start in range(0, len(block), CHUNK):
            part = slice_block(block, slice(start, start + CHUNK))
            graph = block_graph(part, self._finder)
            for k, member in enumerate(self._members):
                scaled, last = member.network(graph)
                values[k].append(member.scaling.backward(part, scaled.double().numpy()))
                features[k].append((last.double().numpy() - member.centre) / member.spread)
        return Prediction(
            np.stack([np.concatenate(parts) for parts in values]),
            sketch([np.concatenate(parts) for parts in features], self._width),
            np.mean([member.scaling.scale for member in self._members], axis=0),
        )


def fit_network(
    model: NetworkModel,
    dataset: Dataset,
    systems: Mapping[str, System],
    seed: int,
    warm: bytes | None,
    correction: bool = False,
) -> bytes:
    """Train one network on a dataset and return its state; a correction may stay at zero where it does not help."""
    earlier = _read(warm) if warm is not None else None
    split_seed = int(earlier["split_seed"]) if earlier else seed
    out = held_out(dataset, split_seed, model.held_out)
    scaling = fit_scaling(dataset)
    finder = NeighbourFinder(systems, model.cutoff)
    graphs = [
        block_graph(slice_block(block, slice(row, row + 1)), finder)
        for block in dataset.blocks
        for row in range(len(block))
    ]
    targets = torch.from_numpy(scaling.forward(dataset).astype(np.float32))
    trained_rows, checked_rows = np.flatnonzero(~out).tolist(), np.flatnonzero(out).tolist()
    examples = Examples([graphs[row] for row in trained_rows], targets[trained_rows])
    checks = Examples([graphs[row] for row in checked_rows], targets[checked_rows])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = model.network(dataset.targets.shape[1])
        if earlier:
            _load_weights(network, earlier)
        trained = train(
            network, examples, checks, model.plan(len(trained_rows)), seed, correction or earlier is not None
        )
    network.load_state_dict(trained.state)
    return _write(trained, scaling, _features(network, graphs), split_seed)


def load_networks(
    model: NetworkModel, states: Sequence[bytes], systems: Mapping[str, System], width: int
) -> NetworkPredictor:
    """Return the ensemble made of members' states, its features sketched to ``width``."""
    if not states:
        raise InputError("an ensemble must have at least one member but got none; train it first.")
    members = [_member(model, _read(state)) for state in states]
    return NetworkPredictor(members, NeighbourFinder(systems, model.cutoff), width)


@torch.no_grad()
def _features(network: nn.Module, graphs: Sequence[Graph]) -> FloatArray:
    network.eval()
    return np.concatenate([network(graph)[1].double().numpy() for graph in graphs])


def _write(trained: Trained, scaling: Scaling, features: FloatArray, split_seed: int) -> bytes:
    centre = features.mean(axis=0)
    spread = float(np.sqrt(np.mean(np.sum((features - centre) ** 2, axis=1))))
    record = {
        "network": trained.state,
        "elements": torch.from_numpy(scaling.elements),
        "baseline": torch.from_numpy(scaling.baseline),
        "scale": torch.from_numpy(scaling.scale),
        "centre": torch.from_numpy(centre),
        "spread": spread if spread > 0 else 1.0,
        "split_seed": split_seed,
        "held_out_loss": trained.loss,
        "curve": trained.curve,
    }
    buffer = io.BytesIO()
    torch.save(record, buffer)
    return buffer.getvalue()


def _read(state: bytes) -> dict[str, Any]:
    return dict(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))


def _member(model: NetworkModel, record: Mapping[str, Any]) -> Member:
    scaling = Scaling(*(record[name].numpy() for name in ("elements", "baseline", "scale")))
    network = model.network(len(scaling.scale))
    _load_weights(network, record)
    network.eval()
    return Member(network, scaling, record["centre"].numpy(), float(record["spread"]))


def _load_weights(network: nn.Module, record: Mapping[str, Any]) -> None:
    weights: dict[str, Tensor] = record["network"]
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"a member's state must fit the model's settings but got {str(error).splitlines()[-1].strip()}; "
            "train it anew or restore the settings."
        ) from error
