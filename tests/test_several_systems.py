"""Two crystals in one campaign, force constants from the labeler, with a calculator that takes milliseconds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import write

from activeph.build import run_campaign
from activeph.config import load_campaign
from activeph.entries import campaign_entries
from activeph.loop import Loop
from activeph.progress import NoProgress
from activeph.proposal import label_seconds
from activeph.replacement import request
from activeph.rundir import RunDirectory
from activeph.state import State, Step, Trajectory, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger
from activeph.systems import read_phonopy

LATTICE = {"Cu": 3.594, "Al": 3.995}  # Å, close to those of the effective-medium potential


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("metals")
    for element, a in LATTICE.items():
        write(folder / f"{element}.vasp", bulk(element, "fcc", a=a))
    content = {
        "name": "metals",
        "systems": [{"structure": f"{element}.vasp", "supercell": [2, 2, 2]} for element in LATTICE],
        "targets": ["energy_per_atom", "hydrostatic_stress"],
        "temperatures": [200, 400],
        "pool": 41,
        "label": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 16, "initial": 10, "batch": 6, "repeats": 1},
        "test": {"n": 12},
        "execute": "serial",
        "arms": {
            "active-phonon": {"sample": "phonon", "select": {"kind": "quota", "systems": {"Cu": 2, "Al": 1}}},
            "cheap": {
                "sample": "phonon",
                "select": {"kind": "cost-aware", "seconds": {"Cu": 9, "Al": 1}, "using": "random"},
            },
            "random": {"sample": "random", "select": {"kind": "quota", "by": ["temperature"], "using": "random"}},
        },
    }
    (folder / "metals.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activeph.build.draw_report", lambda directory: None)
        run_campaign(folder / "metals.yaml", folder / "run", NoProgress())
    return RunDirectory(folder / "run")


def state(directory: RunDirectory) -> State:
    return fold(Journal(directory.journal).events())


def test_pools_and_picks_cover_both_systems(finished: RunDirectory) -> None:
    reached = state(finished)
    assert set(reached.pool_sizes.values()) == {41}  # 21 of one crystal, 20 of the other
    for picks in (reached.test or (), *reached.picks.values()):
        assert set(Counter(pick.system for pick in picks)) <= set(LATTICE)
    assert Counter(pick.system for pick in reached.test or ()) == {"Cu": 6, "Al": 6}
    for name in LATTICE:
        assert finished.system(name).exists()


def test_batches_hold_their_quotas(finished: RunDirectory) -> None:
    picks = {step: picks for step, picks in state(finished).picks.items() if step.round == 1}
    groups = {step.arm: Counter((pick.system, pick.temperature) for pick in picks[step]) for step in picks}
    assert groups["active-phonon"] == {("Cu", 200): 2, ("Cu", 400): 2, ("Al", 200): 1, ("Al", 400): 1}
    assert Counter(pick.temperature for step in picks for pick in picks[step] if step.arm == "random") == {
        200: 3,
        400: 3,
    }
    by_system = Counter(pick.system for step in picks for pick in picks[step] if step.arm == "cheap")
    assert by_system in ({"Al": 4, "Cu": 2}, {"Al": 5, "Cu": 1})  # three to one, up to what the initial set took


def test_measured_times_are_means_by_system(finished: RunDirectory) -> None:
    picks = [pick for step in state(finished).picks for pick in state(finished).picks[step]]
    systems = {name: read_phonopy(name, finished.system(name)) for name in LATTICE}
    times = label_seconds(picks, Ledger(finished.labels), systems)
    assert set(times) == set(LATTICE)
    assert min(times.values()) > 0
    only = label_seconds([pick for pick in picks if pick.system == "Cu"], Ledger(finished.labels), systems)
    assert only == {"Cu": times["Cu"], "Al": pytest.approx(times["Cu"])}  # as many atoms
    assert label_seconds([], Ledger(finished.labels), systems) == {}


def test_measured_times_reach_the_selector(finished: RunDirectory) -> None:
    reached = state(finished)
    systems = {name: read_phonopy(name, finished.system(name)) for name in LATTICE}
    campaign = load_campaign(finished.root / "campaign.yaml")
    journal, ledger = Journal(finished.journal), Ledger(finished.labels)
    with campaign.execute.start(finished.root / "jobs") as workers:
        loop = Loop(campaign, systems, finished, journal, ledger, workers, NoProgress())
        for arm in ("cheap", "random"):
            step = Step(arm, 0, 1)
            wish = request(loop, reached, step, 6, reached.spent(Trajectory(arm, 0), before=1))
            assert set(wish.seconds) == set(LATTICE)
            assert min(wish.seconds.values()) > 0


def test_labels_are_of_the_configurations_that_were_picked(finished: RunDirectory) -> None:
    """An atom order or a system mixed up on the way to the dataset would show in the elements."""
    for entry in campaign_entries(state(finished), Ledger(finished.labels)):
        element = {13: "Al", 29: "Cu"}[int(entry.label.configuration.numbers[0])]
        assert entry.system == element
        assert entry.temperature in (200.0, 400.0)
        assert entry.split == "test" or entry.arms


def test_truth_and_predictions_have_the_same_rows(finished: RunDirectory) -> None:
    truth = np.load(finished.truth)
    assert sorted(truth["systems"].tolist()) == truth["systems"].tolist()
    for step, metrics in state(finished).evaluated.items():
        mean = np.load(finished.round(*step) / "test_predictions.npz")["mean"]
        assert mean.shape == truth["targets"].shape
        error = 1000 * np.abs(mean[:, 0] - truth["targets"][:, 0]).mean()  # meV per atom
        assert metrics["targets"]["energy_per_atom"]["mae"] == pytest.approx(error)
    # the crystals differ by tenths of an eV per atom, thermal energies by hundredths: rows in another order would show
    assert state(finished).evaluated[max(state(finished).evaluated)]["targets"]["energy_per_atom"]["mae"] < 50


def test_validation_share_depends_on_the_key_alone(finished: RunDirectory) -> None:
    entries = campaign_entries(state(finished), Ledger(finished.labels))
    splits = Counter(entry.split for entry in entries)
    assert splits["test"] == 12
    assert splits["train"] > splits["validation"]
    for entry in entries:
        if entry.arms:
            assert (entry.split == "validation") == (int(entry.key[:8], 16) < 0.1 * 16**8)
