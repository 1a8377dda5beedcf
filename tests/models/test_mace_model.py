"""What MACE reads is what was labelled; what it writes is what it predicts; foundation models are kept and moved."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from activeph.errors import InputError
from activeph.label.mace import MaceLabeler
from activeph.models.calibration import take
from activeph.models.mace import MaceModel
from activeph.models.mace_data import binding_energies, check_labels, check_reading, labelled_structures, read_by_mace
from activeph.models.mace_targets import targets_of
from activeph.models.split import split_labels
from activeph.records import Block, Configuration, Dataset, System

ELEMENTS = [11, 17]
SMALL: dict[str, Any] = {"members": 2, "steps": 15, "channels": 4, "vectors": False, "radial": 4, "cutoff": 4.2}
NAMES = ("energy_per_atom", "hydrostatic_stress")


@pytest.fixture(scope="module")
def system(crystal: Callable[..., System]) -> System:
    return crystal("rocksalt")


def make_dataset(system: System, n: int = 12, seed: int = 0, names: tuple[str, ...] = NAMES) -> Dataset:
    """Repelling exponentials between unlike atoms, with their own forces and stress."""
    cell = system.supercell
    rng = np.random.default_rng(seed)
    positions = cell.positions + 0.12 * rng.normal(size=(n, len(cell.numbers), 3))
    block = Block(
        system.name, np.tile(cell.numbers, (n, 1)), positions, np.tile(cell.cell, (n, 1, 1)), np.full(n, 300.0)
    )
    apart = positions[:, :, None] - positions[:, None]  # [n, i, j, 3]
    apart -= np.round(apart @ np.linalg.inv(cell.cell)) @ cell.cell
    lengths = np.linalg.norm(apart, axis=3) + np.eye(len(cell.numbers))
    unlike = (cell.numbers[:, None] != cell.numbers[None]) & (lengths < 4.0)
    pairs = np.where(unlike, 5.0 * np.exp(-(lengths - 2.8) / 0.4), 0.0)
    slopes = np.where(unlike, -pairs / 0.4, 0.0)[..., None] * apart / lengths[..., None]
    energies = 0.5 * pairs.sum(axis=(1, 2)) - 5000.0
    tensor = 0.5 * np.einsum("nijx,nijy->nxy", slopes, apart) / np.linalg.det(cell.cell)
    stresses = np.stack([tensor[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], axis=1)
    forces = -slopes.sum(axis=2)
    return Dataset((block,), names, targets_of(block, names, energies, forces, stresses), energies, (forces,), stresses)


# what contradicts itself among the labels


def test_sound_labels_pass(system: System) -> None:
    check_labels(make_dataset(system), True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: replace(d, forces=(-d.forces[0],)), "minus the gradient of the energies but got the opposite sign"),
        (lambda d: replace(d, forces=(d.forces[0] / 51.42,)), "energies must be in eV and forces in eV/Å but got"),
        (lambda d: replace(d, forces=(d.forces[0] * 23.06,)), "energies must be in eV and forces in eV/Å but got"),
        (lambda d: replace(d, energies=d.energies * 27.2), "the targets of label 0 as labelled"),
        (lambda d: replace(d, stresses=-d.stresses), "the targets of label 0 as labelled"),
        (lambda d: replace(d, stresses=d.stresses * np.nan), "finite stresses but got nan or inf; set model.stress_w"),
        (lambda d: replace(d, forces=(d.forces[0] * np.nan,)), "finite forces but got nan or inf; use a labeler"),
        (lambda d: replace(d, target_names=("band_gap", NAMES[1])), "among energy_per_atom, .* but got band_gap"),
    ],
)
def test_labels_that_contradict_themselves(change: Callable[[Dataset], Dataset], sentence: str, system: System) -> None:
    with pytest.raises(InputError, match=sentence):
        check_labels(change(make_dataset(system)), True)


def test_fixed_atoms_are_found(system: System) -> None:
    """ASE gives zero forces for atoms under FixAtoms, and MACE would learn them."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    dataset = make_dataset(system)
    fixed = []
    for places, forces in zip(dataset.blocks[0].positions, dataset.forces[0], strict=True):
        atoms = Atoms(system.supercell.numbers, places, cell=system.supercell.cell, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, forces=forces)
        atoms.set_constraint(FixAtoms([2, 5]))
        fixed.append(atoms.get_forces())
    with pytest.raises(InputError, match=r"exactly zero for atoms \[2, 5\] .* remove the constraint \(FixAtoms\)"):
        check_labels(replace(dataset, forces=(np.array(fixed),)), True)


def test_zeros_by_symmetry_are_no_constraint(system: System) -> None:
    dataset = make_dataset(system)
    forces = dataset.forces[0].copy()
    forces[:, 2] = 0.0
    forces -= np.where(np.arange(8) == 2, 0.0, 1.0)[:, None] * forces.sum(axis=1, keepdims=True) / 7
    check_labels(replace(dataset, forces=(forces,)), True)


def test_energies_of_different_atoms_are_not_compared(system: System) -> None:
    """In a solid solution energies follow the composition, and not the work of the forces alone."""
    dataset = make_dataset(system)
    (block,) = dataset.blocks
    replaced = dataset.energies > np.median(dataset.energies)
    species = block.species.copy()
    species[replaced, -1] = 35
    energies = dataset.energies + 30.0 * replaced
    block = replace(block, species=species)
    targets = targets_of(block, NAMES, energies, dataset.forces[0], dataset.stresses)
    check_labels(replace(dataset, blocks=(block,), energies=energies, targets=targets), True)


def test_energies_of_another_code(system: System) -> None:
    dataset = make_dataset(system, 4)
    energies = dataset.energies.copy()
    energies[2] *= 3
    species = list(dataset.blocks[0].species)
    with pytest.raises(InputError, match="within 50 eV per atom .* for label 2; do all labels come from one code"):
        binding_energies(species, energies, ELEMENTS, np.array([-625.0, -625.0]))


# what MACE reads


def read(dataset: Dataset, change: Callable[[Any], object] = lambda atoms: None) -> list[Any]:
    structures = labelled_structures(dataset)
    for atoms in structures:
        change(atoms)
    return read_by_mace(structures, ELEMENTS, 4.2, ["Default"], "Default")


def constrain(atoms: Any) -> None:
    """What a reader does that asks a constrained structure for its forces."""
    atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"].copy()
    atoms.arrays["REF_forces"][3] = 0.0


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "energy key": (lambda a: a.info.update(energy=a.info.pop("REF_energy")), r"the energy \(REF_energy, eV\)"),
    "forces key": (lambda a: a.arrays.update(forces=a.arrays.pop("REF_forces")), r"forces \(REF_forces, eV/Å\)"),
    "stress key": (lambda a: a.info.update(stress=a.info.pop("REF_stress")), r"the stress \(REF_stress"),
    "energy unit": (lambda a: a.info.update(REF_energy=a.info["REF_energy"] / 27.211386), "the energy"),
    "force unit": (lambda a: a.arrays.update(REF_forces=a.arrays["REF_forces"] / 51.422067), "forces"),
    "stress unit": (lambda a: a.info.update(REF_stress=a.info["REF_stress"] * 160.2), "the stress"),
    "stress sign": (lambda a: a.info.update(REF_stress=-a.info["REF_stress"]), "the stress .* positive under tension"),
    "Voigt order": (
        lambda a: a.info.update(REF_stress=a.info["REF_stress"][[0, 1, 2, 5, 4, 3]]),
        "the stress .* yz xz",
    ),
    "constraint": (constrain, "forces"),
    "weight": (lambda a: a.info.update(config_forces_weight=0.0), "weights of energy and forces"),
    "cell": (lambda a: a.set_cell(a.cell.array + [[0, 0.2, 0], [0, 0, 0], [0, 0, 0]]), "the cell"),
    "positions": (lambda a: a.translate([0.1, 0, 0]), "positions"),
    "elements": (lambda a: a.set_atomic_numbers(a.numbers[::-1]), "atomic numbers"),
}


@pytest.mark.slow
def test_what_mace_reads_is_what_was_labelled(system: System) -> None:
    dataset = make_dataset(system, 3)
    graphs = read(dataset)
    check_reading(dataset, graphs, ELEMENTS, True)
    with pytest.raises(InputError, match="must read all 3 labels but got 2"):
        check_reading(dataset, graphs[:2], ELEMENTS, True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_every_misreading_is_caught(fault: str, system: System) -> None:
    change, name = BROKEN[fault]
    dataset = make_dataset(system, 2)
    with pytest.raises(InputError, match=f"MACE must read {name}.* of label 0 as labelled"):
        check_reading(dataset, read(dataset, change), ELEMENTS, True)


@pytest.mark.slow
def test_mace_reads_exported_files_as_they_were_labelled(system: System, tmp_path: Path) -> None:
    """The file that ``activeph export`` writes, read by the function that MACE's trainer reads files with."""
    from ase.io import write
    from mace.data import KeySpecification, load_from_xyz

    dataset = make_dataset(system, 3)
    write(tmp_path / "labels.extxyz", labelled_structures(dataset))
    _, configurations = load_from_xyz(str(tmp_path / "labels.extxyz"), KeySpecification.from_defaults())
    for number, configuration in enumerate(configurations):
        assert configuration.properties["energy"] == pytest.approx(dataset.energies[number], abs=1e-9)
        np.testing.assert_allclose(configuration.properties["forces"], dataset.forces[0][number], atol=1e-7)
        np.testing.assert_allclose(np.ravel(configuration.properties["stress"]), dataset.stresses[number], atol=1e-9)


# a trained committee


@pytest.fixture(scope="module")
def trained(system: System) -> tuple[MaceModel, list[bytes]]:
    model = MaceModel(**SMALL)
    dataset = make_dataset(system)
    return model, [model.fit(dataset, {system.name: system}, seed) for seed in range(2)]


Trained = tuple[MaceModel, list[bytes]]


@pytest.mark.slow
def test_exported_files_say_in_ase_what_the_committee_predicts(
    trained: Trained, system: System, tmp_path: Path
) -> None:
    from ase import Atoms
    from mace.calculators import MACECalculator

    model, states = trained
    predictor = model.load(states, {system.name: system})
    paths = model.export(states, tmp_path)
    assert [path.name for path in paths] == ["member-0.model", "member-1.model"]
    block = make_dataset(system, 3, 5).blocks[0]
    answers = predictor.answers(block)
    label = MaceLabeler(model=paths[0]).label(block.configuration(0), tmp_path)  # the file as teacher or for phonons
    assert label.energy == pytest.approx(answers[0].energies[0], abs=1e-4)
    np.testing.assert_allclose(label.forces, answers[0].forces[0], atol=2e-4)
    for path, answer in zip(paths, answers, strict=True):
        calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
        for row in range(3):
            atoms = Atoms(
                block.species[row], block.positions[row], cell=block.cells[row], pbc=True, calculator=calculator
            )
            assert atoms.get_potential_energy() == pytest.approx(answer.energies[row], abs=1e-4)
            np.testing.assert_allclose(atoms.get_forces(), answer.forces[row], atol=2e-4)
            np.testing.assert_allclose(atoms.get_stress(), answer.stresses[row], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_exported_files_become_lammps_models(trained: Trained, system: System, tmp_path: Path) -> None:
    """MACE's own converter makes of an exported file what LAMMPS loads, and it says the same."""
    model, states = trained
    (path, *_) = model.export(states, tmp_path)
    command = [sys.executable, "-m", "mace.cli.create_lammps_model", str(path)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    lammps = torch.jit.load(f"{path}-lammps.pt")
    dataset = make_dataset(system, 1, 5)
    (graph,) = read(dataset)
    (answer, *_) = model.load(states[:1], {system.name: system}).answers(dataset.blocks[0])
    data = {name: getattr(graph, name) for name in ("positions", "node_attrs", "edge_index", "shifts", "unit_shifts")}
    data |= {"cell": graph.cell, "batch": torch.zeros(8, dtype=torch.long), "ptr": torch.tensor([0, 8])}
    out = lammps(data, torch.ones(8, dtype=torch.float64), compute_virials=True)
    assert float(out["total_energy_local"]) == pytest.approx(answer.energies[0], abs=1e-4)
    np.testing.assert_allclose(out["forces"].numpy(), answer.forces[0], atol=2e-4)
    virial = out["virials"][0].numpy() / -np.linalg.det(dataset.blocks[0].cells[0])
    np.testing.assert_allclose(np.diag(virial), answer.stresses[0][:3], atol=1e-6)


@pytest.mark.slow
def test_uncertainty_is_the_spread_of_the_forces(trained: Trained, system: System) -> None:
    model, states = trained
    systems = {system.name: system}
    block = make_dataset(system, 4, 5).blocks[0]
    predictor = model.load(states, systems)
    prediction = predictor.predict(block)
    forces = np.stack([answer.forces for answer in predictor.answers(block)])
    spread = np.sqrt(np.mean(np.var(forces, axis=0, ddof=1), axis=(1, 2)))
    ratio = prediction.uncertainty / spread
    np.testing.assert_allclose(ratio, ratio[0])
    assert 1 / ratio[0] == pytest.approx(np.sqrt(np.mean(make_dataset(system).forces[0] ** 2)), rel=0.2)
    by_targets = MaceModel(**SMALL, score="targets").load(states, systems).predict(block)
    assert by_targets.spread is None
    np.testing.assert_allclose(by_targets.members, prediction.members)


@pytest.mark.slow
def test_all_components_of_the_stress_are_learned_by_mace_itself(system: System) -> None:
    names = ("energy_per_atom", "stress_xx", "stress_yz")
    assert set(names) <= set(MaceModel.learns)
    dataset = make_dataset(system, 6, names=names)
    model = MaceModel(**SMALL)
    prediction = model.load([model.fit(dataset, {system.name: system}, 0)], {system.name: system}).predict(
        dataset.blocks[0]
    )
    assert prediction.members.shape == (1, 6, 3)
    assert np.std(prediction.mean[:, 2]) > 0


@pytest.mark.slow
def test_labels_without_stress_teach_energies_and_forces(system: System) -> None:
    names = ("energy_per_atom",)
    dataset = make_dataset(system, 6, names=names)
    dataset = replace(dataset, stresses=np.full((6, 6), np.nan))
    model = MaceModel(**SMALL, stress_weight=0.0)
    state = model.fit(dataset, {system.name: system}, 0)
    assert np.all(np.isfinite(model.load([state], {system.name: system}).predict(dataset.blocks[0]).members))


@pytest.mark.slow
def test_warm_start_keeps_held_out_labels_and_ends_no_worse(trained: Trained, system: System) -> None:
    from activeph.models.mace_network import unpack

    model, states = trained
    dataset = make_dataset(system, 20)  # its first 12 are others: the seed draws all at once
    warm = unpack(model.fit(dataset, {system.name: system}, 7, states[0]))
    assert np.array_equal(warm["held_out"].numpy(), np.flatnonzero(split_labels(dataset, 0, model.held_out).held_out))
    assert warm["held_out_loss"] <= warm["curve"][0][1]


@pytest.mark.slow
def test_useless_earlier_state_leaves_no_trace(system: System) -> None:
    """Trained on the opposite of what is true: the member is the one of a cold start, bit by bit."""
    dataset, systems, model = make_dataset(system, 20), {system.name: system}, MaceModel(**SMALL)
    (block,), (forces,) = dataset.blocks, dataset.forces
    energies, stresses = 2 * dataset.energies.mean() - dataset.energies, -dataset.stresses
    wrong = replace(dataset, energies=energies, forces=(-forces,), stresses=stresses)
    wrong = replace(wrong, targets=targets_of(block, NAMES, energies, -forces, stresses))
    earlier = model.fit(take(wrong, range(15)), systems, 0)
    assert model.fit(dataset, systems, 0, earlier) == model.fit(dataset, systems, 0)


# foundation models


def crystal_of(numbers: list[int]) -> Configuration:
    return Configuration(np.array(numbers), np.arange(3.0 * len(numbers)).reshape(-1, 3), 9 * np.eye(3))


def foundation_file(path: Path, numbers: list[int]) -> Path:
    """Write an untrained MACE model as published ones are."""
    from activeph.models.mace_network import build_network, set_atoms

    torch.manual_seed(3)
    words = MaceModel(channels=6, radial=4, cutoff=4.5, vectors=True).architecture() | {"avg_num_neighbors": 12.0}
    network = build_network(words | {"atomic_inter_scale": [0.7]}, numbers, torch.float64)
    set_atoms(network, -np.arange(1.0, len(numbers) + 1)[None])
    torch.save(network, path)
    return path


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foundation_file(tmp_path_factory.mktemp("foundation") / "big.model", [8, 11, 17, 19, 35])


def calculated(path: Path, block: Block, row: int, **options: str) -> tuple[float, Any]:
    from ase import Atoms
    from mace.calculators import MACECalculator

    with contextlib.redirect_stdout(io.StringIO()):
        calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64", **options)
    atoms = Atoms(block.species[row], block.positions[row], cell=block.cells[row], pbc=True, calculator=calculator)
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.mark.slow
def test_fewer_elements_say_what_the_foundation_model_says(foundation: Path, system: System) -> None:
    from activeph.models.mace_batch import evaluate, join_graphs
    from activeph.models.mace_foundation import foundation_architecture, foundation_atoms, read_foundation, start_from

    dataset = make_dataset(system, 2)
    model = read_foundation(foundation, None, ELEMENTS)
    for replayed in (False, True):
        words = foundation_architecture(model, replayed)
        network = start_from(model, words, ELEMENTS, torch.float64)
        for head in words["heads"]:
            graphs = read_by_mace(labelled_structures(dataset), ELEMENTS, 4.5, words["heads"], head)
            out = evaluate(network, join_graphs(graphs, torch.float64, torch.device("cpu")), training=False)
            energy, forces = calculated(foundation, dataset.blocks[0], 0)
            atoms = 4 * foundation_atoms(model, ELEMENTS).sum()
            assert float(out["energy"][0]) + atoms == pytest.approx(energy, abs=1e-9)
            np.testing.assert_allclose(out["forces"][:8].detach().numpy(), forces, atol=1e-9)


@pytest.mark.slow
def test_fine_tuning_with_a_second_head_remembers(foundation: Path, system: System, tmp_path: Path) -> None:
    """The replayed structures keep the foundation model's answers better than without; both heads are exported."""
    from ase.io import write

    dataset = make_dataset(system, 10)
    again = make_dataset(system, 6, 77)
    write(tmp_path / "replay.extxyz", labelled_structures(again))
    settings = {"members": 1, "steps": 60, "foundation": foundation, "learning_rate": 0.01}
    model = MaceModel(**settings, replay=tmp_path / "replay.extxyz", replay_weight=10.0)
    state = model.fit(dataset, {system.name: system}, 0)
    (path,) = model.export([state], tmp_path)
    learned = model.load([state], {system.name: system}).predict(dataset.blocks[0])
    default, _ = calculated(path, dataset.blocks[0], 1)  # MACE's calculator takes the head named Default by itself
    assert default == pytest.approx(8 * learned.mean[1, 0], abs=1e-3)
    drift = {}
    for head in ("pt_head", "Default"):
        forces = [calculated(path, again.blocks[0], row, head=head)[1] for row in range(6)]
        kept = [calculated(foundation, again.blocks[0], row)[1] for row in range(6)]
        drift[head] = np.sqrt(np.mean((np.array(forces) - np.array(kept)) ** 2))
    assert drift["pt_head"] < 0.3 * drift["Default"]


@pytest.mark.slow
def test_a_model_with_two_heads_may_be_a_foundation(foundation: Path, system: System, tmp_path: Path) -> None:
    from ase.io import write

    dataset = make_dataset(system, 4)
    write(tmp_path / "replay.extxyz", labelled_structures(dataset))
    first = MaceModel(members=1, steps=1, foundation=foundation, replay=tmp_path / "replay.extxyz")
    (path,) = first.export([first.fit(dataset, {system.name: system}, 0)], tmp_path)
    MaceModel(foundation=path).check(crystal_of(ELEMENTS))
    MaceModel(foundation=path, foundation_head="pt_head").check(crystal_of(ELEMENTS))
    with pytest.raises(InputError, match="foundation_head must be one of pt_head, Default but got mp"):
        MaceModel(foundation=path, foundation_head="mp").check(crystal_of(ELEMENTS))


@pytest.mark.slow
def test_foundation_models_that_do_not_suit(foundation: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model.foundation must know every element but got none of Ag, I"):
        MaceModel(foundation=foundation).check(crystal_of([47, 53, 11]))
    (tmp_path / "text.model").write_text("no model")
    with pytest.raises(InputError, match="model.foundation must be a MACE model but got"):
        MaceModel(foundation=tmp_path / "text.model").check(crystal_of(ELEMENTS))
    torch.save(torch.nn.Linear(1, 1), tmp_path / "linear.model")
    with pytest.raises(InputError, match="must be a ScaleShiftMACE, as published ones are, but got a Linear"):
        MaceModel(foundation=tmp_path / "linear.model").check(crystal_of(ELEMENTS))


def test_keys_that_contradict_one_another(tmp_path: Path) -> None:
    path = tmp_path / "some.model"
    path.touch()
    with pytest.raises(ValidationError, match="left out beside foundation"):
        MaceModel(foundation=path, cutoff=6.0)
    with pytest.raises(ValidationError, match="needs the file of a foundation model"):
        MaceModel(replay=path)
    with pytest.raises(ValidationError, match="must be at most 2 where angular is 4"):
        MaceModel(angular=4, correlation=3)
    MaceModel(angular=4, correlation=2)


# memory


@pytest.mark.slow
def test_a_small_memory_gives_the_same_member(
    trained: Trained, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    from activeph.models import mace_training

    whole = mace_training.evaluate

    def narrow(network: Any, data: Any, training: bool) -> Any:
        if len(data["ptr"]) - 1 > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return whole(network, data, training)

    monkeypatch.setattr(mace_training, "evaluate", narrow)
    model, states = trained
    dataset, systems = make_dataset(system), {system.name: system}
    state = model.fit(dataset, systems, 0)
    expected, got = (model.load([one], systems).predict(dataset.blocks[0]) for one in (states[0], state))
    np.testing.assert_allclose((got.mean - expected.mean) / expected.scale, 0, atol=0.02)
    assert len(model.learning_curve(state)) > 2
