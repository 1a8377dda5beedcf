"""Trained networks as a calculator: one potential, the one that predictions speak of, in any cell."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import yaml
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from activeph.errors import InputError
from activeph.kinds import load_kind
from activeph.label.ase_calculator import AseLabeler
from activeph.models.calculator import NetworkCalculator
from activeph.models.stress import with_stress
from activeph.records import Block, Configuration, Dataset, System
from activeph.systems.load import load_system

DATA = Path(__file__).parents[1] / "data" / "kbr"
NETWORK = {"steps": 30, "hidden": 8, "cutoff": 5.0, "radial": 4}
MODELS: dict[str, dict[str, Any]] = {
    "gnn": {"members": 2, **NETWORK},
    "gnn-deep": {"kind": "gnn", "members": 1, "layers": 2, **NETWORK},
    "gnn-heads": NETWORK,
    "gnn-posterior": NETWORK,
    "modes-gnn": {"members": 2, "gnn": NETWORK},
    "gnn-stress": {"kind": "gnn", "members": 1, **NETWORK},
}
TARGETS = ("band_gap", "energy_per_atom")


@pytest.fixture(scope="module")
def kbr() -> System:
    return load_system("KBr", DATA / "KBr.vasp", [2, 2, 2], DATA / "phonopy_params.yaml")


@functools.cache
def kbr_dataset(names: tuple[str, ...] = TARGETS) -> Dataset:
    """Return the labels of KBr (GFN2-xTB, 300 K)."""
    frames = ase.io.read(DATA / "phonon.extxyz", index=":")
    n = len(frames[0])
    stresses = np.array([frame.get_stress() for frame in frames])
    columns = {
        "band_gap": [frame.info["gap"] for frame in frames],
        "energy_per_atom": [frame.get_potential_energy() / n for frame in frames],
        "stress_xx": stresses[:, 0],
    }
    arrays = [np.array([getattr(frame, name) for frame in frames]) for name in ("numbers", "positions")]
    cells = np.array([frame.cell.array for frame in frames])
    block = Block("KBr", *arrays, cells, np.full(len(frames), 300.0))
    forces = np.array([frame.get_forces() for frame in frames])
    targets = np.stack([columns[name] for name in names], axis=1)
    energies = np.array([frame.get_potential_energy() for frame in frames])
    return Dataset((block,), names, targets, energies, (forces,), stresses)


def trained(folder: Path, name: str, system: System, dataset: Dataset) -> tuple[list[str], Any]:
    """Train a model and lay its members where a run has them; return their paths and the predictor."""
    settings = {"kind": name, **MODELS[name]} if name in MODELS else {"kind": name}
    section: Any = load_kind("models", settings["kind"]).model_validate(settings)
    model = with_stress(section, dataset.target_names)
    place = folder / "arms" / "lcmd" / "repeat-0" / "round-001"
    place.mkdir(parents=True)
    (folder / "campaign.yaml").write_text(yaml.safe_dump({"model": settings, "targets": list(dataset.target_names)}))
    states = [model.fit(dataset, {system.name: system}, seed) for seed in range(model.members)]
    paths = [place / f"member-{number}.pt" for number in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        path.write_bytes(state)
    return [str(path) for path in paths], model.load(states, {system.name: system})


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, kbr: System) -> Callable[[str], tuple[list[str], Any]]:
    """Return a function: name of a model -> its members' files and its predictor, trained once."""
    known: dict[str, tuple[list[str], Any]] = {}

    def get(name: str) -> tuple[list[str], Any]:
        if name not in known:
            names = (*TARGETS, "stress_xx") if name == "gnn-stress" else TARGETS
            known[name] = trained(tmp_path_factory.mktemp(name), name, kbr, kbr_dataset(names))
        return known[name]

    return get


def atoms_with(calculator: NetworkCalculator, row: int = 0) -> ase.Atoms:
    block = kbr_dataset().blocks[0]
    return ase.Atoms(block.species[row], block.positions[row], cell=block.cells[row], pbc=True, calculator=calculator)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_forces_and_stress_are_derivatives_of_the_energy(name: str, members: Any) -> None:
    atoms = atoms_with(NetworkCalculator(members(name)[0]))
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 0.02
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-9)

    def energy(positions: np.ndarray, strain: np.ndarray | None = None) -> float:
        moved = atoms.copy()
        moved.positions = positions
        if strain is not None:
            moved.set_cell(moved.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        moved.calc = atoms.calc
        return float(moved.get_potential_energy())

    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (12, 2)):
        shift = np.zeros_like(atoms.positions)
        shift[atom, axis] = step
        slope = (energy(atoms.positions + shift) - energy(atoms.positions - shift)) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-6)
    for number, (i, j) in ((0, (0, 0)), (3, (1, 2))):
        strain = np.zeros((3, 3))
        strain[i, j] += step / 2
        strain[j, i] += step / 2
        slope = (energy(atoms.positions, strain) - energy(atoms.positions, -strain)) / (2 * step)
        assert stress[number] == pytest.approx(slope / atoms.get_volume(), abs=1e-8)


@pytest.mark.parametrize("name", ["gnn", "gnn-deep", "gnn-heads", "gnn-posterior", "gnn-stress"])
def test_the_energy_is_what_the_ensemble_predicts(name: str, members: Any) -> None:
    paths, predictor = members(name)
    predicted = predictor.predict(kbr_dataset().blocks[0]).mean[:, 1] * 16
    calculator = NetworkCalculator(paths)
    energies = [atoms_with(calculator, row).get_potential_energy() for row in range(len(predicted))]
    assert np.std(predicted) > 0.01
    np.testing.assert_allclose(energies, predicted, atol=16 * 1e-5)


def test_neither_place_nor_order_nor_size_of_the_cell_matters(members: Any) -> None:
    calculator = NetworkCalculator(members("gnn")[0])
    atoms = atoms_with(calculator)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    order = np.random.default_rng(0).permutation(len(atoms))
    moved = atoms[order]
    moved.translate([0.3, -7.0, 1.1])
    moved.wrap()
    large = atoms.repeat((2, 1, 1))
    for other, factor, expected in ((moved, 1, forces[order]), (large, 2, np.tile(forces, (2, 1)))):
        other.calc = calculator
        assert other.get_potential_energy() == pytest.approx(factor * energy, abs=1e-7)
        np.testing.assert_allclose(other.get_forces(), expected, atol=1e-8)


def test_a_crystal_relaxes(members: Any) -> None:
    atoms = atoms_with(NetworkCalculator(members("gnn")[0]))
    before = atoms.get_potential_energy()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.02, steps=5)
    assert atoms.get_potential_energy() < before


def test_it_labels_and_new_members_are_another_labeler(members: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(Path(members("gnn")[0][0]).parents[4], run)
    place = run / "arms" / "lcmd" / "repeat-0" / "round-001"
    paths = sorted(str(path) for path in place.iterdir())
    labeler = AseLabeler(calculator="activeph.models.calculator:NetworkCalculator", arguments={"members": paths})
    block = kbr_dataset().blocks[0]
    configuration = Configuration(block.species[0], block.positions[0], block.cells[0])
    first, fingerprint = labeler.label(configuration, tmp_path), labeler.fingerprint
    assert np.isfinite([first.energy, *first.stress]).all()
    assert np.isnan(first.band_gap)
    Path(paths[0]).write_bytes(Path(paths[1]).read_bytes())
    assert labeler.fingerprint != fingerprint
    assert labeler.label(configuration, tmp_path).energy != first.energy


@pytest.mark.parametrize(
    ("name", "names", "with_forces", "sentence"),
    [
        ("gnn", ("band_gap",), True, "must have energy_per_atom among their targets but got band_gap"),
        ("gnn", TARGETS, False, "must have learned forces but got"),
        ("modes", TARGETS, True, "gnn-heads, gnn-posterior or modes-gnn but got modes"),
    ],
)
def test_members_that_cannot_teach(
    name: str, names: tuple[str, ...], with_forces: bool, sentence: str, tmp_path: Path, kbr: System
) -> None:
    data = kbr_dataset(names)
    data = data if with_forces else replace(data, forces=(np.full_like(data.forces[0], np.nan),))
    paths, _ = trained(tmp_path, name, kbr, data)
    with pytest.raises(InputError, match=sentence):
        NetworkCalculator(paths)


def test_wrong_files_and_atoms_are_answered_in_a_sentence(members: Any, tmp_path: Path) -> None:
    paths, _ = members("gnn")
    with pytest.raises(InputError, match="members must be files such as RUN.*No such file"):
        NetworkCalculator(str(tmp_path / "member-0.pt"))
    with pytest.raises(InputError, match="but got 0 folders"):
        NetworkCalculator([])
    lone = tmp_path / "member-0.pt"
    shutil.copy(paths[0], lone)
    with pytest.raises(InputError, match=re.escape("copy the run's campaign.yaml beside it")):
        NetworkCalculator(str(lone))
    shutil.copy(Path(paths[0]).parents[4] / "campaign.yaml", tmp_path)
    assert NetworkCalculator(str(lone)).results == {}
    lone.write_bytes(b"nothing")
    with pytest.raises(InputError, match="a member's state must be one that this version"):
        NetworkCalculator(str(lone))
    with pytest.raises(InputError, match="device must be auto, cpu or cuda but got 'gpu'"):
        NetworkCalculator(paths, device="gpu")  # type: ignore[arg-type]
    atoms = atoms_with(NetworkCalculator(paths))
    atoms.numbers[0] = 11
    with pytest.raises(InputError, match=re.escape("elements the members know (K, Br) but got Na")):
        atoms.get_potential_energy()
    atoms = atoms_with(NetworkCalculator(paths))
    atoms.pbc = False
    with pytest.raises(InputError, match="periodic in three directions"):
        atoms.get_potential_energy()
