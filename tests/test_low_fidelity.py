"""Campaigns whose models correct a cheap code: better for the same labels, exact in their accounts, resumable."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from activeph.build import label_costs, run_campaign
from activeph.cli.check import command as check
from activeph.cli.ledger import export
from activeph.cli.predict import command
from activeph.cli.standing import standing
from activeph.config import load_campaign
from activeph.errors import InputError
from activeph.identity import label_key
from activeph.progress import NoProgress
from activeph.records import Label
from activeph.report.page import page
from activeph.report.results import load_results
from activeph.rundir import RunDirectory
from activeph.state import State, Step, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger

DATA = Path(__file__).parent / "data" / "kbr"
pytestmark = pytest.mark.usefixtures("no_pictures")
LAST = Step("phonon", 0, 1)


def cheap_labels(folder: Path, holes: int = 0) -> str:
    """Write what a cheap code would say: gaps that are shifted, squeezed and blurred; some structures are missing."""
    rng = np.random.default_rng(0)
    frames = []
    for name in ("phonon", "random"):
        for atoms in ase.io.read(DATA / f"{name}.extxyz", index=":"):
            atoms.info["gap"] = 0.6 * atoms.info["gap"] + 1 + 0.02 * rng.normal()
            atoms.info["vbm"] = 0.5 * atoms.info["vbm"] - 3
            frames.append(atoms)
    path = folder / "cheap.extxyz"
    ase.io.write(path, [frame for n, frame in enumerate(frames) if not (holes and n % holes == 0)])
    return str(path)


def campaign(**changes: Any) -> dict[str, Any]:
    phonon, random = str(DATA / "phonon.extxyz"), str(DATA / "random.extxyz")
    crystal = {"name": "KBr", "structure": str(DATA / "KBr.vasp"), "supercell": [2, 2, 2]}
    return {
        "name": "cheap",
        "systems": [{**crystal, "force_constants": str(DATA / "phonopy_params.yaml")}],
        "arms": {
            "active": {"sample": {"kind": "replay", "file": phonon}, "select": "lcmd"},
            "phonon": {"sample": {"kind": "replay", "file": phonon}, "select": "random"},
            "random": {"sample": {"kind": "replay", "file": random}, "select": "random"},
        },
        "label": {"kind": "replay", "files": [phonon, random]},
        "targets": ["band_gap", "energy_per_atom"],
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 12, "initial": 6, "batch": 6, "repeats": 1},
        "test": {"sample": {"kind": "replay", "file": phonon}, "n": 20},
        "execute": "serial",
        **changes,
    }


def run(folder: Path, **changes: Any) -> State:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.yaml").write_text(yaml.safe_dump(campaign(**changes)))
    run_campaign(folder / "campaign.yaml", folder / "run", NoProgress())
    return state_of(folder)


def state_of(folder: Path) -> State:
    return fold(Journal(folder / "run" / "journal.jsonl").events())


def replayed(folder: Path, **options: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return {"low_fidelity": {"kind": "replay", "files": [cheap_labels(folder, **options)]}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(folder, **replayed(folder))
    return folder


def metrics(state: State) -> dict[Step, str]:
    return {step: json.dumps(values, sort_keys=True) for step, values in state.evaluated.items()}


def test_the_gap_is_learned_better_and_energies_as_before(finished: Path, tmp_path: Path) -> None:
    with_it, without = state_of(finished), run(tmp_path)
    assert with_it.picks[LAST] == without.picks[LAST]
    for step in (LAST, Step("random", 0, 1)):
        better, plain = (state.evaluated[step]["targets"] for state in (with_it, without))
        assert better["band_gap"]["mae"] < 0.6 * plain["band_gap"]["mae"]
        assert better["energy_per_atom"]["mae"] == pytest.approx(plain["energy_per_atom"]["mae"])


def test_the_budget_counts_labels_and_the_ledger_holds_both(finished: Path) -> None:
    state = state_of(finished)
    assert {step: metrics["labels"] for step, metrics in state.evaluated.items() if step.round == 1} == dict.fromkeys(
        [Step(arm, 0, 1) for arm in ("active", "phonon", "random")], 12
    )
    labelled = {pick.key for step in (None, *state.picks) for pick in state.counting(step)}
    assert len(list(Ledger(finished / "run" / "labels").keys())) == 2 * len(labelled)


@pytest.mark.parametrize("after", [2, 5, 9])
def test_interrupted_it_ends_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    append, left = Journal.append, [after]

    def dying(self: Journal, event: dict[str, Any]) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        append(self, event)

    changes = replayed(tmp_path)
    monkeypatch.setattr(Journal, "append", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **changes)
    monkeypatch.setattr(Journal, "append", append)
    assert metrics(run(tmp_path, **changes)) == metrics(state_of(finished))


def test_members_removed_with_cheap_labels_are_trained_on_them_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    directory, ledger = RunDirectory(tmp_path / "run"), Ledger(tmp_path / "run" / "labels")
    lost = [directory.member(*LAST, 0), directory.predictions(*LAST)]
    contents = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    labels = [ledger.get(pick.key) for pick in (*state_of(finished).picks[LAST], *(state_of(finished).test or ()))]
    fingerprint = load_campaign(finished / "campaign.yaml").low_fidelity.fingerprint  # type: ignore[union-attr]
    for label in labels:
        assert isinstance(label, Label)
        shutil.rmtree(ledger.directory(label_key(label.configuration, fingerprint)))
    run_campaign(finished / "campaign.yaml", tmp_path / "run", NoProgress())
    assert [path.read_bytes() for path in lost] == contents


def test_where_the_cheap_code_fails_the_campaign_goes_on(tmp_path: Path) -> None:
    state = run(tmp_path, **replayed(tmp_path, holes=9))
    ledger = Ledger(tmp_path / "run" / "labels")
    n_failed = list(dict(ledger.states()).values()).count("failure")
    assert 2 < n_failed < 15
    assert np.isfinite(state.evaluated[LAST]["targets"]["band_gap"]["mae"])
    with np.load(tmp_path / "run/arms/phonon/repeat-0/round-001/test_predictions.npz") as arrays:
        unsure = arrays["std"][:, 0] > 3 * np.median(arrays["std"][:, 0])
    assert 0 < unsure.sum() < 8  # those that it failed for have the spread of what it would have told


def test_another_cheap_code_is_refused_on_resume(finished: Path, tmp_path: Path) -> None:
    run(tmp_path, **replayed(tmp_path))
    with pytest.raises(InputError, match="low_fidelity"):
        run(tmp_path)


def test_the_page_tells_of_it(finished: Path) -> None:
    text = page(load_results(finished / "run"), (), {})
    assert "as corrections to those of a cheap code (replay)" in text


def test_predictions_ask_the_cheap_code(finished: Path, tmp_path: Path) -> None:
    frames = ase.io.read(DATA / "phonon.extxyz", index=":")
    ase.io.write(tmp_path / "all.extxyz", frames)
    words = [finished / "run", tmp_path / "all.extxyz", "--arm", "phonon", "-o", tmp_path / "p.csv"]
    answer = CliRunner().invoke(command, [str(word) for word in words])
    assert answer.exit_code == 0, answer.output
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))[1:]
    predicted, truth = np.array([float(row[2]) for row in rows]), np.array([atoms.info["gap"] for atoms in frames])
    assert np.abs(predicted - truth).mean() < 0.05
    assert np.corrcoef(predicted, truth)[0, 1] > 0.98


def test_exports_hold_one_code_or_say_so(finished: Path, tmp_path: Path) -> None:
    def exported(*words: str) -> tuple[int, str]:
        path = tmp_path / f"all{len(words)}{len(words[-1]) if words else 0}.extxyz"
        answer = CliRunner().invoke(export, [str(finished / "run"), "-o", str(path), *words])
        assert answer.exit_code == 0, answer.exception
        return len(ase.io.read(path, index=":")), answer.output

    n, said = exported()
    own = load_campaign(finished / "campaign.yaml").label.fingerprint
    assert "of several labelers, " in said
    assert f"{own} ({n // 2})" in said
    assert exported("--fingerprint", own[:8])[0] == n // 2
    assert "several" not in exported("--fingerprint", own)[1]
    wrong = CliRunner().invoke(export, [str(finished / "run"), "-o", str(tmp_path / "x.extxyz"), "--fingerprint", "zz"])
    assert "--fingerprint must be that of labels in DIR but got 'zz'" in str(wrong.exception)


def small_with_xtb(**budget: Any) -> dict[str, Any]:
    """Return the keys of a campaign whose labels, four and two to test, are calculated within a second each."""
    budget = {"labels": 4, "initial": 4, "repeats": 1, **budget}
    test = {"sample": {"kind": "random"}, "n": 2}
    arms = {"random": {"sample": {"kind": "random", "strain": 0.01}, "select": "random"}}
    crystal = {"name": "KBr", "structure": str(DATA / "KBr.vasp"), "supercell": [1, 1, 1]}
    systems = [{**crystal, "force_constants": str(DATA / "phonopy_params.yaml")}]
    changes = {"budget": budget, "test": test, "arms": arms, "temperatures": [300], "label": {"kind": "xtb"}}
    return changes | {"systems": systems, "model": {"kind": "gnn", "members": 1, "steps": 2}}


def test_core_hours_hold_both(tmp_path: Path) -> None:
    changes = small_with_xtb()
    plain, both = tmp_path / "plain", tmp_path / "both"
    run(plain, **changes)
    run(both, **changes, low_fidelity={"kind": "xtb", "method": "GFN1-xTB"})
    costs = [label_costs(RunDirectory(folder / "run")) for folder in (plain, both)]
    assert costs[0].keys() == costs[1].keys()
    ledger = Ledger(both / "run" / "labels")
    assert len(dict(ledger.states())) == 2 * 6  # four of the arm and two of the test set
    assert standing(RunDirectory(both / "run"))["preparation"]["done"] == 0  # what stands beside labels is none
    for key, hours in costs[1].items():
        own = sum(attempt["seconds"] for attempt in ledger.attempts() if attempt["key"] == key) / 3600
        assert hours > own > 0


def test_check_forecasts_both(tmp_path: Path) -> None:
    def said(*words: str, **changes: Any) -> str:
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign(**changes)))
        answer = CliRunner().invoke(check, [str(tmp_path / "campaign.yaml"), *words])
        assert answer.exit_code == 0, answer.exception
        return answer.output

    cheap = {"low_fidelity": {"kind": "xtb", "method": "GFN1-xTB"}}
    small = small_with_xtb(core_hours=1e-7) | {"systems": campaign()["systems"]}
    table = said(**small, **cheap)
    numbers = {row[0]: int(row[1]) for row in re.findall(r"^(.+?)  +(\d+)  .*B$", table, re.MULTILINE)}
    assert numbers == {"arm random": 4, "test set": 2, "low fidelity": 6, "at most": 12}
    assert "the campaign will pause at its limit" in table
    assert "low fidelity: at most 6 labels" in said("--no-label", **small, **cheap)
    replayed_alone = said(**cheap)  # labels cost nothing, what stands beside them does
    assert "arm active: at most 12 labels" in replayed_alone
    assert re.search(r"^low fidelity +56  .*\nat most +56  ", replayed_alone, re.MULTILINE)


def test_refusals(tmp_path: Path) -> None:
    def refused(**changes: Any) -> str:
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign(**changes)))
        with pytest.raises(InputError) as caught:
            load_campaign(tmp_path / "campaign.yaml")
        return str(caught.value)

    assert "low_fidelity must be left out where none of band_gap" in refused(
        low_fidelity={"kind": "xtb"}, targets=["energy_per_atom"]
    )
    assert "low_fidelity" in refused(low_fidelity="nothing")
    with pytest.raises(InputError, match="low_fidelity must be a labeler that gives band_gap.*but got ase"):
        run(tmp_path, low_fidelity={"kind": "ase", "calculator": "ase.calculators.lj:LennardJones"})
