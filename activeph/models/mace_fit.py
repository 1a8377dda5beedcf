"""How one member of a MACE committee is made: read, check, start, train, write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from activeph.graphs.batch import slice_block
from activeph.graphs.neighbours import NeighbourFinder
from activeph.models.calibration import unseen
from activeph.models.device import pick_device
from activeph.models.mace_batch import block_data
from activeph.models.mace_data import binding_energies, check_labels
from activeph.models.mace_network import DTYPES, pack, set_atoms, unpack
from activeph.models.mace_predictor import BATCH_CPU, Member
from activeph.models.mace_start import Reading, Start, fresh_start, later_start, read_all, replayed_lessons
from activeph.models.mace_targets import targets_of
from activeph.models.mace_training import Lessons, Measure, Trainer
from activeph.models.network import USEFUL
from activeph.models.scaling import fit_scaling
from activeph.models.split import Split, split_labels
from activeph.models.training import Plan, Trained
from activeph.records import Dataset, FloatArray, IntArray, System

if TYPE_CHECKING:
    from activeph.models.mace import MaceModel

LEAST_UNITS = (1e-4, 1e-3, 1e-5)  # eV per atom, eV/Å, eV/Å³: smaller variations of labels are noise
AVERAGING = 0.99  # decay of the running mean of the weights per step


def fit_mace(model: MaceModel, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None) -> bytes:
    """Train one member and return its state; see :class:`activeph.models.base.Model`."""
    scaling = fit_scaling(dataset)
    check_labels(dataset, model.stress_weight > 0)
    earlier = unpack(warm) if warm is not None else None
    split = split_labels(dataset, seed, model.held_out, earlier)
    reading = read_all(model, dataset, systems)
    measure = _measure(model, dataset, reading, np.flatnonzero(~split.held_out))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start, trained, was_warm = _Course(model, reading, measure, split, seed).run(earlier)
    network = start.network.to("cpu")
    network.load_state_dict(trained.state)
    set_atoms(network, start.atoms)
    more = split.record(was_warm) | {
        "target_names": list(dataset.target_names),
        "units": list(measure.units),
        "scale": torch.from_numpy(scaling.scale),
        "targets": torch.from_numpy(dataset.targets),
        "held_out_loss": trained.loss,
        "curve": trained.curve,
    }
    state = pack(network, start.architecture, start.atoms, more)
    values, features = _outputs(unpack(state), model, dataset, systems)
    elsewhere, _ = _outputs(unpack(state), model, unseen(dataset, systems), systems)
    spread = float(np.sqrt(np.mean(np.sum((features - features.mean(axis=0)) ** 2, axis=1))))
    more |= {
        "values": torch.from_numpy(values),
        "unseen": torch.from_numpy(elsewhere),
        "centre": torch.from_numpy(features.mean(axis=0)),
        "spread": spread if spread > 0 else 1.0,
    }
    return pack(network, start.architecture, start.atoms, more)


class _Course:
    """One member's training: from an earlier state where that is better than afresh, else afresh."""

    def __init__(self, model: MaceModel, reading: Reading, measure: Measure, split: Split, seed: int) -> None:
        self._model, self._reading, self._measure, self._split, self._seed = model, reading, measure, split, seed
        self._dtype, self._device = DTYPES[model.dtype], pick_device(model.device)

    def run(self, earlier: Mapping[str, Any] | None) -> tuple[Start, Trained, bool]:
        """Return the start taken, what came of it, and whether it was the earlier state."""
        fresh = fresh_start(self._reading, self._measure.units[1], self._dtype, self._device)
        replayed = replayed_lessons(self._reading, fresh, self._model.replay_weight, self._dtype, self._device)
        again = later_start(self._reading, fresh, earlier, self._dtype, self._device) if earlier else None
        if again is not None and self._judge(again) < USEFUL * self._judge(fresh):
            trained = self._train(again, replayed)
            if trained.loss < trained.curve[0][1]:  # else nothing new was learned
                return again, trained, True
        return fresh, self._train(fresh, replayed), False

    def _judge(self, start: Start) -> float:
        """Return the loss of labels that neither the member nor its earlier state has trained on."""
        return self._trainer(start).loss(self._lessons(start, self._split.judges))

    def _train(self, start: Start, replayed: Lessons) -> Trained:
        out = self._split.held_out
        lessons, checks = self._lessons(start, ~out), self._lessons(start, out)
        plan = Plan(self._model.n_steps(len(lessons)), self._model.batch, self._model.rate(), 0.0, averaging=AVERAGING)
        return self._trainer(start).train(lessons, replayed, checks, plan, self._seed)

    def _trainer(self, start: Start) -> Trainer:
        return Trainer(start.network, self._measure, self._dtype, self._device, self._model.batch)

    def _lessons(self, start: Start, chosen: Any) -> Lessons:
        reading = self._reading
        energies = binding_energies(reading.species, reading.energies, reading.elements, start.atoms[-1])
        rows = np.flatnonzero(chosen).tolist()
        return Lessons([reading.graphs[row] for row in rows], torch.from_numpy(energies[rows]))


def _measure(model: MaceModel, dataset: Dataset, reading: Reading, rows: IntArray) -> Measure:
    """Return how errors count: in standard deviations of the labels trained on, stresses without their mean."""
    sizes = np.array([len(numbers) for numbers in reading.species])
    energies = binding_energies(reading.species, reading.energies, reading.elements, reading.plain_atoms) / sizes
    forces = np.concatenate([np.sum(forces**2, axis=(1, 2)) for forces in dataset.forces])
    own = (
        float(np.std(energies[rows])),
        float(np.sqrt(np.sum(forces[rows]) / (3 * np.sum(sizes[rows])))),
        float(np.sqrt(np.mean(np.var(dataset.stresses[rows], axis=0)))) if model.stress_weight else 1.0,
    )
    energy, force, stress = (max(unit, least) for unit, least in zip(own, LEAST_UNITS, strict=True))
    return Measure((energy, force, stress), (model.energy_weight, model.forces_weight, model.stress_weight))


def _outputs(
    record: Mapping[str, Any], model: MaceModel, dataset: Dataset, systems: Mapping[str, System]
) -> tuple[FloatArray, FloatArray]:
    """Return the targets [S, P] and raw features [S, F] of a member for its whole dataset."""
    member = Member(record, DTYPES[model.dtype], pick_device(model.device))
    finder = NeighbourFinder(systems, member.cutoff)
    values, features = [], []
    for block in dataset.blocks:
        for first in range(0, len(block), BATCH_CPU):
            part = slice_block(block, slice(first, first + BATCH_CPU))
            answer = member.answer(part, block_data(part, finder, member.layout))
            features.append(answer.features)
            values.append(targets_of(part, dataset.target_names, answer.energies, answer.forces, answer.stresses))
    return np.concatenate(values), np.concatenate(features)
