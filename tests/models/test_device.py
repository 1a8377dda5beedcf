"""Networks say clearly where they compute, fit themselves into its memory, and leave states that any machine reads."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from activeph.errors import InputError
from activeph.kinds import load_kind
from activeph.models.device import Batches, pick_device
from activeph.models.gnn import GnnModel
from activeph.models.graph_network import GraphNetwork
from activeph.models.property_net import PropertyNet
from activeph.records import Block, Dataset, System
from activeph.tasks import FitTask, fit_member

MODEL = GnnModel(members=2, steps=12, hidden=8, cutoff=4.2, batch=8)


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


def labelled(system: System, n: int) -> Dataset:
    """Springs to the sites: energies and forces that belong together."""
    cell = system.supercell
    moved = 0.1 * np.random.default_rng(0).normal(size=(n, len(cell.numbers), 3))
    block = Block(
        system.name,
        np.tile(cell.numbers, (n, 1)),
        cell.positions + moved,
        np.tile(cell.cell, (n, 1, 1)),
        np.full(n, 300.0),
    )
    energies = np.sum(moved**2, axis=(1, 2))
    targets = np.stack([5 - energies, energies / len(cell.numbers)], axis=1)
    return Dataset((block,), ("band_gap", "energy_per_atom"), targets, energies, (-2 * moved,), np.zeros((n, 6)))


class SmallMemory:
    """Lets a network fail as on a full GPU where it gets more structures than fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
        self.refused: list[int] = []
        forward = PropertyNet.forward

        def limited(network: GraphNetwork, graph: object) -> object:
            if graph.n_structures > fits:  # type: ignore[attr-defined]
                self.refused.append(graph.n_structures)  # type: ignore[attr-defined]
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(network, graph)  # type: ignore[arg-type]

        monkeypatch.setattr(PropertyNet, "forward", limited)


def test_training_goes_on_in_smaller_batches(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    data, systems = labelled(system, 20), {system.name: system}
    whole = MODEL.fit(data, systems, 0)
    memory = SmallMemory(monkeypatch, 3)
    parts = MODEL.fit(data, systems, 0)
    assert memory.refused.count(8) <= 2  # once in training, once in the last look at all labels: never tried again
    assert memory.refused.count(4) >= 1
    first, second = (MODEL.load([state], systems).predict(data.blocks[0]) for state in (whole, parts))
    np.testing.assert_allclose((first.members - second.members) / first.scale, 0, atol=2e-3)


def test_prediction_goes_on_in_smaller_batches(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    data, systems = labelled(system, 20), {system.name: system}
    states = [MODEL.fit(data, systems, seed) for seed in range(2)]
    predictor = MODEL.load(states, systems)
    whole = predictor.predict(data.blocks[0])
    memory = SmallMemory(monkeypatch, 4)
    parts = predictor.predict(data.blocks[0])
    tried = len(memory.refused)
    predictor.predict(data.blocks[0])
    assert len(memory.refused) == tried
    np.testing.assert_allclose(whole.members, parts.members, rtol=1e-5, atol=1e-6)


def test_one_structure_that_does_not_fit_is_one_sentence(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled(system, 6)
    SmallMemory(monkeypatch, 0)
    with pytest.raises(InputError, match="a single structure must fit into memory but got 'CUDA out of memory"):
        MODEL.fit(data, {system.name: system}, 0)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def fail(rows: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Batches(8).run(8, fail)


def test_a_batch_is_begun_again_after_a_failure() -> None:
    seen: list[str] = []

    def work(rows: slice) -> int:
        if rows.stop - rows.start > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        seen.append(f"{rows.start}-{rows.stop}")
        return rows.stop - rows.start

    batches = Batches(5)
    assert batches.run(5, work, lambda: seen.append("begin")) == [2, 2, 1]
    assert seen == ["begin", "begin", "begin", "0-2", "2-4", "4-5"]
    assert batches.size == 2


def test_no_gpu_is_one_sentence(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for kind in ("gnn", "origin"):
        with pytest.raises(InputError, match="got cuda on a machine without a GPU"):
            load_kind("models", kind)(device="cuda").fit(labelled(system, 4), {system.name: system}, 0)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_members_move_between_gpu_and_cpu(system: System) -> None:
    data, systems = labelled(system, 20), {system.name: system}
    on_gpu, on_cpu = (MODEL.model_copy(update={"device": device}) for device in ("cuda", "cpu"))
    states = [on_gpu.fit(data, systems, 0), on_cpu.fit(data, systems, 1, on_gpu.fit(data, systems, 1))]
    first, second = (model.load(states, systems).predict(data.blocks[0]) for model in (on_gpu, on_cpu))
    np.testing.assert_allclose((first.members - second.members) / first.scale, 0, atol=1e-3)


def test_states_hold_tensors_of_the_cpu_and_the_curve_is_a_file(system: System, tmp_path: Path) -> None:
    path = tmp_path / "member-0.pt"
    fit_member(FitTask(MODEL, labelled(system, 12), {system.name: system}, 0, None, path))
    record = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    assert {tensor.device.type for tensor in record["network"].values()} == {"cpu"}
    lines = (tmp_path / "member-0.csv").read_text().splitlines()
    assert lines[0] == "step,held_out_loss,target_loss,force_loss"
    assert lines[1].split(",")[0] == "0"
    assert len(lines) > 5
    bare = load_kind("models", "modes")(members=1)
    fit_member(FitTask(bare, labelled(system, 12), {system.name: system}, 0, None, tmp_path / "member-1.pt"))
    assert not (tmp_path / "member-1.csv").exists()


def test_an_earlier_versions_state_is_one_sentence(system: System) -> None:
    systems = {system.name: system}
    record = torch.load(io.BytesIO(MODEL.fit(labelled(system, 6), systems, 0)), weights_only=True)
    old = io.BytesIO()
    torch.save({name: value for name, value in record.items() if name != "format"}, old)
    for state, reason in ((old.getvalue(), "format 1 instead of 3"), (b"rubbish", "")):
        with pytest.raises(InputError, match=f"this version of activeph can read but got {reason}"):
            MODEL.load([state], systems)


def test_nothing_is_predicted_of_nothing(system: System) -> None:
    data, systems = labelled(system, 10), {system.name: system}
    block = data.blocks[0]
    empty = Block(block.system, *(array[:0] for array in (block.species, block.positions, block.cells)), np.zeros(0))
    both = load_kind("models", "modes-gnn")(members=2, gnn=MODEL.model_dump(include={"steps", "hidden", "cutoff"}))
    for model in (MODEL, both):
        predictor = model.load([model.fit(data, systems, seed) for seed in range(2)], systems)
        full, none = predictor.predict(block), predictor.predict(empty)
        assert none.members.shape == (2, 0, 2)
        assert none.features.shape == (0, full.features.shape[1])


def test_unknown_elements_are_refused(system: System) -> None:
    data, systems = labelled(system, 10), {system.name: system}
    predictor = MODEL.load([MODEL.fit(data, systems, 0)], systems)
    block = data.blocks[0]
    other = replace(block, species=np.where(block.species == 17, 35, block.species))
    with pytest.raises(InputError, match=r"trained for \(\[11, 17\]\) but got atomic numbers \[35\]"):
        predictor.predict(other)
