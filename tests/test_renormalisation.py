"""A campaign on a crystal of double wells: unstable, renormalised from labels, resumed without paying twice."""

from __future__ import annotations

import csv
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import yaml
from ase.calculators.calculator import Calculator, all_changes

from activeph import judgement
from activeph.acceptance import accept
from activeph.build import draw_report, run_campaign
from activeph.cli.forecast import count_low_fidelity
from activeph.cli.standing import standing
from activeph.config import load_campaign
from activeph.entries import campaign_entries
from activeph.errors import InputError
from activeph.identity import label_key
from activeph.phonons.modes import normal_modes
from activeph.progress import NoProgress
from activeph.report.answer import answer
from activeph.report.compare import compare
from activeph.report.results import load_results
from activeph.rundir import RunDirectory
from activeph.state import PREPARED, State, Step, Trajectory, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger
from activeph.systems import load_system

A, B, SPRING, EDGE = 2.0, 30.0, 4.0, 4.0  # eV/Å², eV/Å⁴, eV/Å², Å


class Wells(Calculator):
    """Cl in a cage of eight Cs: springs between neighbouring Cs, wells -A/2 y² + B/4 y⁴ for y of Cl from its cage."""

    implemented_properties = ["energy", "forces"]
    calls = 0

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        type(self).calls += 1
        heavy = self.atoms.numbers == 55
        box = self.atoms.cell.array[0, 0]
        places = np.where(heavy[:, None], 0.0, 0.5) + np.rint(
            self.atoms.positions / EDGE - np.where(heavy[:, None], 0, 0.5)
        )
        sites = places * EDGE
        u = self.atoms.positions - sites
        offsets = sites[:, None] - sites[None]
        lengths = np.linalg.norm(offsets - box * np.rint(offsets / box), axis=2)
        cages = np.eye(len(u))[~heavy] - ((lengths < 3.6) & heavy[None])[~heavy] / 8
        bonds = 2 * SPRING * ((np.abs(lengths - EDGE) < 0.1) & heavy[:, None] & heavy[None])  # 2: both sides of the box
        matrix = np.diag(bonds.sum(axis=1)) - bonds
        y = cages @ u
        forces = -matrix @ u - cages.T @ (-A * y + B * y**3)
        energy = 0.5 * np.sum(u * (matrix @ u)) + np.sum(-A / 2 * y**2 + B / 4 * y**4)
        self.results = {"energy": float(energy), "forces": forces}


class Insulator(Wells):
    """The same with two bands, whose gap falls with the square of displacements; a cheap code sees half of that."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.share = share

    def get_number_of_spins(self) -> int:
        return 1

    def get_k_point_weights(self) -> np.ndarray:
        return np.ones(1)

    def get_occupation_numbers(self, kpt: int = 0, spin: int = 0) -> np.ndarray:
        return np.array([2.0, 0.0])

    def get_eigenvalues(self, kpt: int = 0, spin: int = 0) -> np.ndarray:
        u = self.atoms.positions - EDGE / 2 * np.rint(2 * self.atoms.positions / EDGE)
        return np.array([-1.0, 3.0 - self.share * np.sum(u**2)])


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("double_wells")
    module.Wells, module.Insulator = Wells, Insulator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "double_wells", module)
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    Wells.calls = 0


def _campaign(folder: Path, temperatures: list[int], **renormalise: Any) -> Path:
    ase.io.write(folder / "CsCl.vasp", ase.Atoms("CsCl", [[0, 0, 0], [2, 2, 2]], cell=np.eye(3) * EDGE, pbc=True))
    sampler = {"kind": "phonon", "imaginary": "renormalise", "statistics": "classical"}
    content = {
        "name": "wells",
        "systems": [
            {
                "name": "CsCl",
                "structure": str(folder / "CsCl.vasp"),
                "supercell": [2, 2, 2],
                "renormalise": {
                    "statistics": "classical",
                    "draws": 24,
                    "frequency_tolerance": 0.4,
                    "energy_tolerance": 0.01,
                    **renormalise,
                },
            }
        ],
        "temperatures": temperatures,
        "arms": {"phonon": {"sample": sampler, "select": "random"}},
        "baseline": "phonon",
        "label": {"kind": "ase", "calculator": "double_wells:Wells"},
        "targets": ["energy_per_atom"],
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 8, "initial": 4, "batch": 4, "repeats": 1},
        "test": {"sample": sampler, "n": 6},
        "execute": "serial",
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_an_unstable_crystal_is_renormalised_and_campaigned(tmp_path: Path) -> None:
    path, run = _campaign(tmp_path, [300, 500]), tmp_path / "run"
    run_campaign(path, run, NoProgress())
    folder = run / "systems" / "CsCl"
    structure = tmp_path / "CsCl.vasp"
    harmonic = load_system("CsCl", structure, [2, 2, 2], folder / "phonopy_params.yaml")
    assert normal_modes(harmonic).frequencies[0] < -2
    for T in (300, 500):
        warm = load_system("CsCl", structure, [2, 2, 2], folder / f"effective-{T}K.yaml")
        lowest = normal_modes(warm).frequencies
        # Self-consistent stiffness of one well, k = -A + 3 B kT / k (see tests/physics/test_renormalise.py).
        stiffness = (-A + np.sqrt(A**2 + 12 * B * 8.617333e-5 * T)) / 2
        assert lowest[0] > 1.0
        light = 15.633302 * np.sqrt(stiffness / 35.453)
        assert np.median(lowest[:20]) == pytest.approx(light, rel=0.25)
    with (folder / "renormalisation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["temperature (K)"] for row in rows} == {"300.0", "500.0"}
    assert (folder / "renormalisation.png").stat().st_size > 10_000
    assert (folder / "bands.png").stat().st_size > 10_000


@pytest.mark.slow
def test_interrupted_renormalisation_pays_for_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _campaign(tmp_path, [400])
    run_campaign(path, tmp_path / "whole", NoProgress())
    whole = Wells.calls
    Wells.calls = 0

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("activeph.systems.write_rounds", die)
        with pytest.raises(KeyboardInterrupt):
            run_campaign(path, tmp_path / "run", NoProgress())
    assert not list((tmp_path / "run" / "systems" / "CsCl").glob("effective*"))
    run_campaign(path, tmp_path / "run", NoProgress())
    assert Wells.calls == whole
    files = [tmp_path / run / "systems" / "CsCl" / "effective-400K.yaml" for run in ("whole", "run")]
    first, second = (file.read_text().partition("force_constants:")[2] for file in files)
    assert first == second


def test_no_convergence_stops_the_campaign_with_a_sentence(tmp_path: Path) -> None:
    path = _campaign(tmp_path, [300], draws=2, max_rounds=3, frequency_tolerance=0.001)
    with pytest.raises(InputError, match="renormalisation of 'CsCl' at 300 K must converge but got, after 6 labels"):
        run_campaign(path, tmp_path / "run", NoProgress())


def _trained(folder: Path, **changes: Any) -> Path:
    """Write a campaign of two arms, one of which needs no phonons; both train on the draws of the renormalisation."""
    loose = {"draws": 12, "frequency_tolerance": 1.0, "energy_tolerance": 0.1}
    path = _campaign(folder, [300, 400], train=True, **loose)
    content = yaml.safe_load(path.read_text())
    content["arms"]["random"] = {"sample": {"kind": "random", "distribution": "uniform"}, "select": "random"}
    content["arms"]["phonon"]["select"] = "lcmd"
    path.write_text(yaml.safe_dump({**content, "baseline": "random", **changes}))
    return path


def _prepared(whole: Path, run: Path) -> None:
    """Copy what was done before the first round, and the labels of the rounds."""
    for name in ("labels", "systems"):
        shutil.copytree(whole / "run" / name, run / name)


def _state(run: Path) -> State:
    return fold(Journal(RunDirectory(run).journal).events())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a campaign that trains on its renormalisation, finished in ``run``."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        module = types.ModuleType("double_wells")
        module.Wells = Wells  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "double_wells", module)
        run_campaign(_trained(folder), folder / "run", NoProgress())
    return folder


def test_every_arm_trains_on_the_draws_and_pays_for_none(whole: Path) -> None:
    run = whole / "run"
    state = _state(run)
    with (run / "systems" / "CsCl" / "renormalisation.csv").open() as file:
        drawn = {row["temperature (K)"]: int(row["labels"]) for row in csv.DictReader(file)}  # the last of each
    prepared = state.prepared or ()
    assert {f"{T:.1f}": sum(pick.temperature == T for pick in prepared) for T in (300.0, 400.0)} == drawn
    assert len({pick.key for pick in prepared}) == len(prepared) == sum(drawn.values())
    assert not {pick.key for pick in prepared} & {pick.key for pick in state.test or ()}
    for arm in ("phonon", "random"):
        spent, known = state.spent(Trajectory(arm, 0)), state.training(Trajectory(arm, 0))
        assert len(spent) == 8
        assert known == [*prepared, *spent]
        metrics = [metrics for step, metrics in state.evaluated.items() if step.arm == arm]
        assert [one["labels"] for one in metrics] == [4, 8]
        assert {one["prepared"] for one in metrics} == {len(prepared)}
    entries = campaign_entries(state, Ledger(run / "labels"))
    assert len(entries) == len(prepared) + 16 + 6
    nobody = [entry for entry in entries if not entry.arms and entry.split != "test"]
    assert {entry.key for entry in nobody} == {pick.key for pick in prepared}


def test_models_do_see_the_draws(whole: Path, tmp_path: Path) -> None:
    path = _trained(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["systems"][0]["renormalise"]["train"] = False
    path.write_text(yaml.safe_dump(content))
    _prepared(whole, tmp_path / "run")
    run_campaign(path, tmp_path / "run", NoProgress())
    without, trained = _state(tmp_path / "run"), _state(whole / "run")
    assert without.prepared is None
    assert not (tmp_path / "run" / "preparation.json").exists()
    assert all("prepared" not in metrics for metrics in without.evaluated.values())
    assert without.test == trained.test
    step = Step("random", 0, 0)
    assert without.picks[step] == trained.picks[step]
    errors = [state.evaluated[step]["targets"]["energy_per_atom"]["mae"] for state in (trained, without)]
    assert errors[0] < 0.1 * errors[1]  # four random labels alone know nothing of thermal ones


@pytest.mark.parametrize("place", ["take_in_preparation", "label", "train"])
def test_a_resumed_campaign_trains_on_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    path, run = _trained(tmp_path), tmp_path / "run"
    _prepared(whole, run)
    with monkeypatch.context() as patch:
        patch.setattr(f"activeph.campaign.{place}", die)
        with pytest.raises(KeyboardInterrupt):
            run_campaign(path, run, NoProgress())
    run_campaign(path, run, NoProgress())
    found, expected = _state(run), _state(whole / "run")
    assert (found.prepared, found.picks, found.test) == (expected.prepared, expected.picks, expected.test)
    assert found.evaluated == expected.evaluated


def test_a_lost_label_of_the_preparation_is_calculated_again(whole: Path, tmp_path: Path) -> None:
    path, run = _trained(tmp_path), tmp_path / "run"
    shutil.copytree(whole / "run", run)
    (run / "report").mkdir(exist_ok=True)
    (run / "report" / "report.html").write_text("")
    ledger = Ledger(run / "labels")
    key = (_state(run).prepared or ())[3].key
    expected = ledger.get(key)
    shutil.rmtree(ledger.directory(key))
    run_campaign(path, run, NoProgress())
    found = Ledger(run / "labels").get(key)
    np.testing.assert_array_equal(found.forces, expected.forces)  # type: ignore[union-attr]


def test_a_lost_list_of_draws_is_made_again_and_a_damaged_one_named(whole: Path, tmp_path: Path) -> None:
    path, run = _trained(tmp_path), tmp_path / "run"
    _prepared(whole, run)
    file = run / "systems" / "CsCl" / "renormalisation-labels.npz"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(InputError, match="labels.npz must be what this run has written but got damage"):
        run_campaign(path, run, NoProgress())
    file.unlink()
    run_campaign(path, run, NoProgress())
    assert _state(run).prepared == _state(whole / "run").prepared
    assert _state(run).evaluated == _state(whole / "run").evaluated


def test_a_doubted_draw_trains_nobody_until_a_user_accepts_it(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = len(_state(whole / "run").prepared or ())
    path, run = _trained(tmp_path), tmp_path / "run"
    _prepared(whole, run)
    sound = judgement.contradictions
    with monkeypatch.context() as patch:
        patch.setattr(
            judgement,
            "contradictions",
            lambda new, known: ["strange", *sound(new, known)[1:]] if len(new.energy) == n else sound(new, known),
        )
        run_campaign(path, run, NoProgress())
    state = _state(run)
    (gone,) = state.set_aside[PREPARED]
    assert gone.pick.key not in {pick.key for pick in state.training(Trajectory("random", 0))}
    assert all(metrics["prepared"] == n - 1 for metrics in state.evaluated.values())
    assert accept(RunDirectory(run), gone.pick.key) == gone.pick.key
    assert len(_state(run).training(Trajectory("random", 0))) == n + 8


def test_the_report_says_what_all_arms_train_on(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole / "run", run)
    n = len(_state(run).prepared or ())
    said = draw_report(RunDirectory(run)).read_text()
    assert f"The training data of every arm hold, from the first round on, {n} labels of the preparation" in said
    assert "(CsCl at 300 K, CsCl at 400 K)" in said
    assert "core-hours, once for all arms" in said
    assert "preparation, for all arms" in said
    assert f"Left out too: {n} labels of the preparation" in said
    assert f"every arm also trains on {n} labels of the preparation" in answer(load_results(run))
    assert f"8 x 1 + {n} of the preparation" in compare([run])
    with (run / "report" / "metrics.csv").open() as file:
        assert {row["prepared_labels"] for row in csv.DictReader(file)} == {str(n)}


def test_a_cheap_code_is_asked_about_the_draws_too(tmp_path: Path) -> None:
    code = {"kind": "ase", "calculator": "double_wells:Insulator"}
    cheap = {**code, "arguments": {"share": 0.5}}
    path = _trained(tmp_path, label=code, low_fidelity=cheap, targets=["band_gap"], temperatures=[300])
    run = tmp_path / "run"
    run_campaign(path, run, NoProgress())
    state, ledger = _state(run), Ledger(run / "labels")
    picks = {pick.key for pick in (*(state.prepared or ()), *(state.test or ()))}
    picks |= {pick.key for chosen in state.picks.values() for pick in chosen}
    assert state.prepared
    fingerprint = load_campaign(path).low_fidelity.fingerprint  # type: ignore[union-attr]
    asked = {label_key(ledger.get(key).configuration, fingerprint) for key in picks}  # type: ignore[union-attr]
    assert {attempt["key"] for attempt in ledger.attempts() if attempt["sort"].startswith(fingerprint)} == asked
    assert len(asked) == len(picks)
    assert all(one["targets"]["band_gap"]["r2"] > 0.99 for one in state.evaluated.values())  # a line leaves nothing
    assert standing(RunDirectory(run))["preparation"]["done"] > len(state.prepared)  # finite displacements with them
    assert count_low_fidelity(load_campaign(path))["low fidelity"] >= len(asked)


def test_training_on_other_forces_or_on_nothing_is_refused(tmp_path: Path) -> None:
    path = _trained(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["systems"][0]["renormalise"]["label"] = {"kind": "xtb"}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="train must be false where renormalise.label is another labeler"):
        load_campaign(path)
    content["systems"][0]["renormalise"].pop("label")
    for part in (content["arms"]["phonon"], content["test"]):
        part["sample"] = {"kind": "phonon", "imaginary": "skip"}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="train must be false where no sampler has `imaginary: renormalise`"):
        load_campaign(path)
