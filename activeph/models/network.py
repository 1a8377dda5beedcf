"""Members that are torch networks: from a dataset to a state, from states to an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from activeph.errors import InputError
from activeph.graphs.batch import Graph, block_graph, join_graphs, slice_block
from activeph.graphs.neighbours import CHUNK, NeighbourFinder
from activeph.models.base import Device
from activeph.models.calibration import recalibrate_ensemble, unchanged, unseen
from activeph.models.device import Batches, pick_device
from activeph.models.forces import force_labels, has_forces, with_energy
from activeph.models.graph_network import GraphNetwork
from activeph.models.network_predictor import Member, NetworkPredictor
from activeph.models.network_state import load_weights, read_state, recorded_scaling, scaling_record, write_state
from activeph.models.scaling import Scaling, fit_scaling
from activeph.models.split import split_labels
from activeph.models.training import Examples, Plan, Trained, evaluate, train
from activeph.records import Block, Dataset, FloatArray, IntArray, System

USEFUL = 0.7  # an earlier state is trained on where its held-out loss is below this share of the untrained network's


class NetworkModel(Protocol):
    """What a recipe for networks must say."""

    @property
    def cutoff(self) -> float:
        """Distance in Å up to which atoms see each other."""
        ...

    @property
    def device(self) -> Device:
        """Processor to compute on."""
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

    def read(self, block: Block, finder: NeighbourFinder, elements: Tensor) -> Graph:
        """Return what all members read of a block that is scored; see :class:`Preparation`."""
        ...


def fit_network(
    model: NetworkModel,
    dataset: Dataset,
    systems: Mapping[str, System],
    seed: int,
    warm: bytes | None,
    units: FloatArray | None = None,
) -> bytes:
    """Train one network on a dataset and return its state.

    Errors count in ``units`` [P], by default the targets' standard deviations. Where forces are learned, the energy
    per atom is too, whether or not it is a target.
    """
    earlier = read_state(warm) if warm is not None else None
    split = split_labels(dataset, seed, model.held_out, earlier)
    plan = model.plan(int(np.sum(~split.held_out)))
    learned, column = with_energy(dataset) if plan.force_weight > 0 and has_forces(dataset) else (dataset, None)
    scaling = fit_scaling(learned)
    elements = _elements(dataset, systems).to(pick_device(model.device))
    examples = _examples(_single_graphs(model, dataset, systems, elements), learned, column, scaling, units)
    parts = [examples.take(np.flatnonzero(rows).tolist()) for rows in (~split.held_out, split.held_out, split.judges)]
    network, trained, was_warm = _train(model, elements, parts, plan, seed, earlier)
    looks, new = Batches(CHUNK), unseen(dataset, systems)
    scaled, features = _outputs(network, examples.graphs, looks)
    elsewhere, _ = _outputs(network, _single_graphs(model, new, systems, elements), looks)
    shown = scaling.first(dataset.targets.shape[1])
    return write_state(
        scaling_record(shown)
        | split.record(was_warm)
        | {
            "network": trained.state,
            "elements": elements,
            "n_learned": learned.targets.shape[1],
            "energy": column,
            "centre": torch.from_numpy(features.mean(axis=0)),
            "spread": _spread(features),
            "values": _shown(scaled, shown, dataset),
            "unseen": _shown(elsewhere, shown, new),
            "targets": torch.from_numpy(dataset.targets),
            "held_out_loss": trained.loss,
            "curve": list(trained.curve),
        }
    )


def _shown(scaled: FloatArray, scaling: Scaling, dataset: Dataset) -> Tensor:
    """Return the targets that are shown [S, P], in their units, of all that a network says."""
    return torch.from_numpy(scaled[:, : len(scaling.scale)] * scaling.scale + scaling.offsets(dataset))


def _examples(
    graphs: Sequence[Graph], dataset: Dataset, energy: int | None, scaling: Scaling, units: FloatArray | None
) -> Examples:
    """Return what a network learns of a dataset: its targets, and forces where the column of the energy is given."""
    device = graphs[0].species.device
    return Examples(
        graphs,
        torch.from_numpy(scaling.forward(dataset).astype(np.float32)).to(device),
        _weights(scaling, units).to(device),
        None if energy is None else force_labels(dataset, energy, scaling, device),
    )


def _weights(scaling: Scaling, units: FloatArray | None) -> Tensor:
    """Return how much each learned target counts; those beyond ``units`` count in their standard deviations."""
    if units is None:
        return torch.ones(len(scaling.scale))
    counted = np.concatenate([units, scaling.scale[len(units) :]])
    return torch.from_numpy((scaling.scale / counted) ** 2).float()


def _train(
    model: NetworkModel,
    elements: Tensor,
    parts: Sequence[Examples],
    plan: Plan,
    seed: int,
    earlier: Mapping[str, Any] | None,
) -> tuple[GraphNetwork, Trained, bool]:
    """Return the network with its best weights, and whether it was trained on from the earlier state.

    ``parts`` are what it trains on, what it holds out, and what of this no earlier state has seen.
    """
    examples, checks, judges = parts
    cuda = [elements.device] if elements.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        network = model.network(examples.targets.shape[1], elements.cpu()).to(elements.device)
        network.standardise(join_graphs(examples.graphs))
        is_alike = earlier is not None and torch.equal(earlier["elements"], elements.cpu())
        later = _later_start(network, earlier, examples, judges) if earlier and is_alike else None
        with torch.random.fork_rng(devices=cuda):  # what is dropped leaves no trace
            trained = train(later, examples, checks, plan, seed, keep_start=True) if later else None
        was_warm = trained is not None and trained.loss < trained.curve[0][1]  # else nothing new was learned
        if trained is None or not was_warm:
            trained = train(network, examples, checks, plan, seed)
    network.load_state_dict(trained.state)
    return network, trained, was_warm


def _later_start(
    network: GraphNetwork, earlier: Mapping[str, Any], examples: Examples, judges: Examples
) -> GraphNetwork | None:
    """Return the network of an earlier state, to be trained on; ``None`` where a fresh start promises more.

    That is where the earlier state says less of labels that it has not seen than their mean does.
    """
    if int(earlier["n_learned"]) != examples.targets.shape[1]:  # forces came with later labels
        return None
    later = deepcopy(network)
    load_weights(later, earlier)
    later.standardise(join_graphs(examples.graphs))
    return later if evaluate(later, judges) < USEFUL * evaluate(network, judges) else None


def held_out_predictions(state: bytes) -> tuple[IntArray, FloatArray]:
    """Return which rows of its dataset a member did not train on [H], and what it predicts for them [H, P]."""
    record = read_state(state)
    rows = record["held_out"].numpy()
    return rows, record["values"].numpy()[rows]


def load_networks(
    model: NetworkModel, states: Sequence[bytes], systems: Mapping[str, System], width: int, recalibrated: bool = True
) -> NetworkPredictor:
    """Return the ensemble made of members' states, its features sketched to ``width``."""
    if not states:
        raise InputError("an ensemble must have at least one member but got none; train it first.")
    records = [read_state(state) for state in states]
    device = pick_device(model.device)
    members = [load_member(model, record, device) for record in records]
    recalibration = recalibrate_ensemble(records) if recalibrated else unchanged(len(records[0]["scale"]))
    return NetworkPredictor(model, members, NeighbourFinder(systems, model.cutoff), width, recalibration)


def _elements(dataset: Dataset, systems: Mapping[str, System]) -> Tensor:
    """Return the sorted atomic numbers of all systems and labels."""
    known = [system.elements for system in systems.values()]
    return torch.from_numpy(np.unique(np.concatenate([*known, *(block.species.ravel() for block in dataset.blocks)])))


def _single_graphs(
    model: NetworkModel, dataset: Dataset, systems: Mapping[str, System], elements: Tensor
) -> list[Graph]:
    finder = NeighbourFinder(systems, model.cutoff)
    singles = (slice_block(block, slice(row, row + 1)) for block in dataset.blocks for row in range(len(block)))
    return [model.prepare(block_graph(single, finder).to(elements.device), elements) for single in singles]


@torch.no_grad()
def _outputs(network: GraphNetwork, graphs: Sequence[Graph], looks: Batches) -> tuple[FloatArray, FloatArray]:
    """Return scaled targets [S, P] and features [S, F] of graphs of one structure each."""
    network.eval()
    parts = looks.run(len(graphs), lambda rows: network(join_graphs(graphs[rows])))
    values, features = (torch.cat(tensors).double().cpu().numpy() for tensors in zip(*parts, strict=True))
    return values, features


def _spread(features: FloatArray) -> float:
    spread = float(np.sqrt(np.mean(np.sum((features - features.mean(axis=0)) ** 2, axis=1))))
    return spread if spread > 0 else 1.0


def load_member(model: NetworkModel, record: Mapping[str, Any], device: torch.device) -> Member:
    """Return the trained network of a record, ready to be asked."""
    network = model.network(int(record["n_learned"]), record["elements"])
    load_weights(network, record)
    network.to(device).eval()
    scaling = recorded_scaling(record)
    return Member(network, record["elements"].to(device), scaling, record["centre"].numpy(), float(record["spread"]))
