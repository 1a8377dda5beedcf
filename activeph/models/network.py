"""Members that are torch networks: fitting, states as bytes, prediction in chunks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from activeph.errors import InputError
from activeph.graphs.batch import Graph, block_graph, join_graphs, slice_block
from activeph.graphs.neighbours import CHUNK, NeighbourFinder
from activeph.models.graph_network import GraphNetwork
from activeph.models.scaling import Scaling, fit_scaling, held_out, sketch
from activeph.models.training import Examples, Plan, Trained, evaluate, train
from activeph.records import Block, Dataset, FloatArray, IntArray, Prediction, System

MEDIAN_OF_NORMAL = 0.6745  # of the absolute value, in standard deviations
USEFUL = 0.7  # an earlier state is trained on where its held-out loss is below this share of the untrained network's


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

    def network(self, n_targets: int, elements: Tensor) -> GraphNetwork:
        """Return an untrained network for crystals of the elements (sorted atomic numbers)."""
        ...

    def prepare(self, graph: Graph, elements: Tensor) -> Graph:
        """Return the graph with what all members read of it, computed once."""
        ...


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network. ``spread`` is the root mean square norm of its centred features on the training set."""

    network: GraphNetwork
    elements: Tensor
    scaling: Scaling
    centre: FloatArray  # [F]
    spread: float


class NetworkPredictor:
    """An ensemble of networks that share one neighbour list per system."""

    def __init__(
        self,
        model: NetworkModel,
        members: Sequence[Member],
        finder: NeighbourFinder,
        width: int,
        spread_factors: FloatArray,
    ) -> None:
        self._model = model
        self._spread_factors = spread_factors
        self._members = members
        self._finder = finder
        self._width = width

    def _prepare(self, block: Block) -> Graph:
        elements = self._members[0].elements
        unknown = sorted(set(np.unique(block.species).tolist()) - set(elements.tolist()))
        if unknown:
            raise InputError(
                f"configurations must have elements that the ensemble was trained for ({elements.tolist()}) "
                f"but got atomic numbers {unknown}; train it with them."
            )
        return self._model.prepare(block_graph(block, self._finder), elements)

    @torch.no_grad()
    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        values: list[list[FloatArray]] = [[] for _ in self._members]
        features: list[list[FloatArray]] = [[] for _ in self._members]
        for start in range(0, len(block), CHUNK):
            part = slice_block(block, slice(start, start + CHUNK))
            graph = self._prepare(part)
            for k, member in enumerate(self._members):
                scaled, last = member.network(graph)
                values[k].append(member.scaling.backward(part, scaled.double().numpy()))
                features[k].append((last.double().numpy() - member.centre) / member.spread)
        members = np.stack([np.concatenate(parts) for parts in values])
        mean = members.mean(axis=0)
        return Prediction(
            mean + self._spread_factors * (members - mean),
            sketch([np.concatenate(parts) for parts in features], self._width),
            np.mean([member.scaling.scale for member in self._members], axis=0),
        )


def fit_network(
    model: NetworkModel,
    dataset: Dataset,
    systems: Mapping[str, System],
    seed: int,
    warm: bytes | None,
    units: FloatArray | None = None,
) -> bytes:
    """Train one network on a dataset and return its state.

    Errors count in ``units`` [P], by default the targets' standard deviations.
    """
    earlier = _read(warm) if warm is not None else None
    split_seed = int(earlier["split_seed"]) if earlier else seed
    out = held_out(dataset, split_seed, model.held_out)
    scaling = fit_scaling(dataset)
    elements = _elements(dataset, systems)
    graphs = _single_graphs(model, dataset, systems, elements)
    targets = torch.from_numpy(scaling.forward(dataset).astype(np.float32))
    weights = (
        torch.ones(len(scaling.scale)) if units is None else torch.from_numpy((scaling.scale / units) ** 2).float()
    )
    examples, checks = (
        Examples([graphs[row] for row in rows], targets[rows], weights)
        for rows in (np.flatnonzero(~out), np.flatnonzero(out))
    )
    plan = model.plan(len(examples.graphs))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = model.network(dataset.targets.shape[1], elements)
        network.standardise(join_graphs(examples.graphs))
        trained = _train_again(network, earlier, examples, checks, plan, seed) if earlier else None
        if trained is None:
            trained = train(network, examples, checks, plan, seed)
    network.load_state_dict(trained.state)
    scaled, features = _outputs(network, graphs)
    offsets = np.concatenate([scaling.offset(block) for block in dataset.blocks])
    return _write(
        _scaling_record(scaling)
        | {
            "network": trained.state,
            "elements": elements,
            "centre": torch.from_numpy(features.mean(axis=0)),
            "spread": _spread(features),
            "split_seed": split_seed,
            "held_out": torch.from_numpy(np.flatnonzero(out)),
            "values": torch.from_numpy(scaled * scaling.scale + offsets),
            "targets": torch.from_numpy(dataset.targets),
            "held_out_loss": trained.loss,
            "curve": trained.curve,
        }
    )


def _train_again(
    network: GraphNetwork, earlier: Mapping[str, Any], examples: Examples, checks: Examples, plan: Plan, seed: int
) -> Trained | None:
    """Train on from an earlier state; ``None`` where a fresh start promises more.

    That is where the earlier state says less of the held-out labels than their mean does, or where nothing new is
    learned. The held-out labels are the same as then, and new ones.
    """
    fresh = deepcopy(network)
    _load_weights(fresh, earlier)
    fresh.standardise(join_graphs(examples.graphs))
    start = evaluate(fresh, checks)
    if not start < USEFUL * evaluate(network, checks):
        return None
    trained = train(fresh, examples, checks, plan, seed, keep_start=True)
    return trained if trained.loss < start else None


def held_out_predictions(state: bytes) -> tuple[IntArray, FloatArray]:
    """Return which rows of its dataset a member did not train on [H], and what it predicts for them [H, P]."""
    record = _read(state)
    rows = record["held_out"].numpy()
    return rows, record["values"].numpy()[rows]


def load_networks(
    model: NetworkModel, states: Sequence[bytes], systems: Mapping[str, System], width: int
) -> NetworkPredictor:
    """Return the ensemble made of members' states, its features sketched to ``width``."""
    if not states:
        raise InputError("an ensemble must have at least one member but got none; train it first.")
    records = [_read(state) for state in states]
    members = [_member(model, record) for record in records]
    return NetworkPredictor(model, members, NeighbourFinder(systems, model.cutoff), width, spread_factors(records))


def spread_factors(records: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Return by how much members must move apart [P] so that their spread is the size of their held-out errors.

    Both are compared label by label on the dataset that all members share; medians, for normally distributed errors.
    """
    values = [record["values"].numpy() for record in records]
    n_targets = values[0].shape[1]
    if len(records) == 1 or len({len(value) for value in values}) > 1:
        return np.ones(n_targets)
    deviations = np.std(values, axis=0, ddof=1)
    rows = [record["held_out"].numpy() for record in records]
    errors = [
        record["targets"].numpy()[row] - value[row] for record, row, value in zip(records, rows, values, strict=True)
    ]
    ratios = np.concatenate(
        [np.abs(error) / (deviations[row] + 1e-300) for error, row in zip(errors, rows, strict=True)]
    )
    if len(ratios) == 0 or not np.all(np.isfinite(np.median(ratios, axis=0))):
        return np.ones(n_targets)
    of_members = np.minimum(np.median(ratios, axis=0) / MEDIAN_OF_NORMAL, 5.0)
    of_mean = of_members**2 - (len(records) - 1) / len(records)  # a member's variance around the mean is no error of it
    return np.asarray(np.sqrt(np.clip(of_mean, 0.04, 25.0)))


def _elements(dataset: Dataset, systems: Mapping[str, System]) -> Tensor:
    """Return the sorted atomic numbers of all systems and labels."""
    known = [system.supercell.numbers for system in systems.values()]
    return torch.from_numpy(np.unique(np.concatenate([*known, *(block.species.ravel() for block in dataset.blocks)])))


def _single_graphs(
    model: NetworkModel, dataset: Dataset, systems: Mapping[str, System], elements: Tensor
) -> list[Graph]:
    finder = NeighbourFinder(systems, model.cutoff)
    singles = (slice_block(block, slice(row, row + 1)) for block in dataset.blocks for row in range(len(block)))
    return [model.prepare(block_graph(single, finder), elements) for single in singles]


@torch.no_grad()
def _outputs(network: GraphNetwork, graphs: Sequence[Graph]) -> tuple[FloatArray, FloatArray]:
    """Return scaled targets [S, P] and features [S, F] of graphs of one structure each."""
    network.eval()
    parts = [network(join_graphs(graphs[start : start + CHUNK])) for start in range(0, len(graphs), CHUNK)]
    values, features = (torch.cat(tensors).double().numpy() for tensors in zip(*parts, strict=True))
    return values, features


def _spread(features: FloatArray) -> float:
    spread = float(np.sqrt(np.mean(np.sum((features - features.mean(axis=0)) ** 2, axis=1))))
    return spread if spread > 0 else 1.0


def _scaling_record(scaling: Scaling) -> dict[str, Any]:
    arrays = {"scaled_elements": scaling.elements, "baseline": scaling.baseline, "scale": scaling.scale}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _write(record: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(record), buffer)
    return buffer.getvalue()


def _read(state: bytes) -> dict[str, Any]:
    return dict(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))


def _member(model: NetworkModel, record: Mapping[str, Any]) -> Member:
    scaling = Scaling(*(record[name].numpy() for name in ("scaled_elements", "baseline", "scale")))
    network = model.network(len(scaling.scale), record["elements"])
    _load_weights(network, record)
    network.eval()
    return Member(network, record["elements"], scaling, record["centre"].numpy(), float(record["spread"]))


def _load_weights(network: GraphNetwork, record: Mapping[str, Any]) -> None:
    weights: dict[str, Tensor] = record["network"]
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"a member's state must fit the model's settings but got {str(error).splitlines()[-1].strip()}; "
            "train it anew or restore the settings."
        ) from error
