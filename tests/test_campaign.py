"""The loop on real KBr labels from a file: complete, deterministic, exact in its accounts, resumable anywhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import activeph.training
from activeph.acceptance import accept
from activeph.build import run_campaign
from activeph.entries import campaign_entries
from activeph.errors import InputError, Paused
from activeph.progress import NoProgress
from activeph.records import Failure, Label
from activeph.recovery import lost_files
from activeph.rundir import RunDirectory
from activeph.state import State, Step, Trajectory, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger

DATA = Path(__file__).parent / "data" / "kbr"
pytestmark = pytest.mark.usefixtures("no_pictures")


def campaign(**changes: Any) -> dict[str, Any]:
    """Return a campaign that takes seconds: pool and labels from files, a model that trains in milliseconds."""
    phonon, random = str(DATA / "phonon.extxyz"), str(DATA / "random.extxyz")
    return {
        "name": "replayed",
        "systems": [
            {
                "name": "KBr",
                "structure": str(DATA / "KBr.vasp"),
                "supercell": [2, 2, 2],
                "force_constants": str(DATA / "phonopy_params.yaml"),
            }
        ],
        "arms": {
            "active": {"sample": {"kind": "replay", "file": phonon}, "select": "lcmd"},
            "phonon": {"sample": {"kind": "replay", "file": phonon}, "select": "random"},
            "random": {"sample": {"kind": "replay", "file": random}, "select": "random"},
        },
        "baseline": "random",
        "label": {"kind": "replay", "files": [phonon, random]},
        "targets": ["band_gap", "energy_per_atom"],
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 16, "initial": 8, "batch": 6, "repeats": 2},
        "test": {"sample": {"kind": "replay", "file": phonon}, "n": 20},
        "execute": "serial",
        **changes,
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(folder: Path, **changes: Any) -> str:
    return run_campaign(write(folder, campaign(**changes)), folder / "run", NoProgress())


def events(folder: Path) -> list[dict[str, Any]]:
    return Journal(folder / "run" / "journal.jsonl").events()


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that must not depend on interruptions: selections, metrics and labels."""
    state = fold(events(folder))
    labels = folder / "run" / "labels"
    return {
        "test": state.test,
        "picks": dict(state.picks),
        "metrics": {step: json.dumps(metrics, sort_keys=True) for step, metrics in state.evaluated.items()},
        "labels": sorted(path.parent.name for path in labels.glob("*/*/label.json")),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


def final(folder: Path) -> State:
    return fold(events(folder))


def test_every_trajectory_spends_exactly_its_budget(finished: Path) -> None:
    state = final(finished)
    for arm in ("active", "phonon", "random"):
        for repeat in (0, 1):
            counts = [len(state.picks[step]) for step in state.steps(Trajectory(arm, repeat))]
            assert counts == [8, 6, 2]


def test_no_trajectory_pays_twice_or_for_the_test_set(finished: Path) -> None:
    state = final(finished)
    assert state.test is not None
    test = {pick.key for pick in state.test}
    assert len(test) == 20
    for arm in ("active", "phonon", "random"):
        for repeat in (0, 1):
            keys = [pick.key for pick in state.spent(Trajectory(arm, repeat))]
            assert len(set(keys)) == len(keys)
            assert not test & set(keys)


def test_equal_samplers_begin_with_equal_sets_and_repeats_differ(finished: Path) -> None:
    state = final(finished)
    first = {step[:2]: [pick.id for pick in picks] for step, picks in state.picks.items() if step.round == 0}
    assert first["active", 0] == first["phonon", 0]
    assert first["active", 0] != first["active", 1]
    assert first["active", 0] != first["random", 0]


def test_only_arms_that_look_at_the_model_record_uncertainties(finished: Path) -> None:
    state = final(finished)
    for step, picks in state.picks.items():
        scored = step.arm == "active" and step.round > 0
        assert all((pick.uncertainty is not None) == scored for pick in picks)


def test_files_say_what_the_journal_says(finished: Path) -> None:
    state = final(finished)
    for step, metrics in state.evaluated.items():
        folder = finished / "run" / "arms" / step.arm / f"repeat-{step.repeat}" / f"round-{step.round:03d}"
        assert json.loads((folder / "metrics.json").read_text()) == metrics
        selection = json.loads((folder / "selection.json").read_text())
        assert [one["key"] for one in selection["candidates"]] == [pick.key for pick in state.picks[step]]
        assert selection["set_aside"] == []
    assert state.evaluated[max(state.evaluated)]["labels"] == 16


def test_typed_again_it_does_nothing(finished: Path) -> None:
    before = (finished / "run" / "journal.jsonl").read_bytes()
    said = run(finished)
    assert "replayed is complete" in said
    assert (finished / "run" / "journal.jsonl").read_bytes() == before


def test_another_seed_selects_otherwise_and_the_same_seed_alike(finished: Path, tmp_path: Path) -> None:
    run(tmp_path / "same")
    run(tmp_path / "other", seed=1)
    assert outcome(tmp_path / "same") == outcome(finished)
    assert outcome(tmp_path / "other")["picks"] != outcome(finished)["picks"]


class Killed(BaseException):
    """What the process feels when it is killed: nothing may catch it."""


def test_killed_after_any_journal_line_it_ends_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = len(events(finished))
    append = Journal.append

    def kill_after(count: int) -> None:
        left = [count]

        def dying(self: Journal, event: dict[str, Any]) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            append(self, event)

        monkeypatch.setattr(Journal, "append", dying)

    starts = 0
    while True:  # each start survives five more lines, so that death comes at every kind of step
        starts += 1
        kill_after(5)
        try:
            run(tmp_path)
            break
        except Killed:
            continue
    assert starts >= total // 5
    monkeypatch.setattr(Journal, "append", append)
    assert outcome(tmp_path) == outcome(finished)


def test_a_removed_label_is_calculated_again_before_anything_goes_on(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy(finished / "campaign.yaml", tmp_path)
    state = final(tmp_path)
    assert state.test is not None
    trained = state.picks[Step("active", 0, 1)][0].key
    ledger = Ledger(tmp_path / "run" / "labels")
    for key in (trained, state.test[0].key):
        shutil.rmtree(ledger.directory(key))
    # the campaign stands before round 1 was trained, and two of its labels are gone
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if '"event":"train"' in line and '"round":1' in line)
    journal.write_text("".join(lines[:cut]))
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def test_a_label_removed_from_a_finished_campaign_comes_back(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    key = final(tmp_path).picks[Step("random", 1, 0)][2].key
    shutil.rmtree(Ledger(tmp_path / "run" / "labels").directory(key))
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_removed_members_of_a_finished_campaign_come_back_bit_by_bit(
    finished: Path, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    whole = [directory.member("active", 0, number, 1) for number in (0, 1, 2)]
    lost = [*whole, directory.member("random", 1, 2, 0)]
    contents = [path.read_bytes() for path in lost]
    for path in lost:
        path.write_bytes(b"") if damage == "emptied" else path.unlink()
    directory.member("phonon", 0, 0, 0).unlink()  # of a round that nothing begins from any more
    run(tmp_path)
    assert [path.read_bytes() for path in lost] == contents
    assert not directory.member("phonon", 0, 0, 0).exists()
    assert outcome(tmp_path) == outcome(finished)


def test_removed_files_of_finished_rounds_come_back_bit_by_bit(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    directory, early, last = RunDirectory(tmp_path / "run"), ("random", 1, 0), ("active", 0, 2)
    lost = [directory.metrics(*early), directory.selection(*last), directory.predictions(*last), directory.truth]
    lost += [directory.predictions(*early), directory.member(*early, 0)]  # without which there is no prediction
    contents = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    assert set(lost_files(final(tmp_path), directory)) == set(lost[:5])
    run(tmp_path)
    assert [path.read_bytes() for path in lost] == contents
    assert outcome(tmp_path) == outcome(finished)


def test_a_campaign_goes_on_from_members_that_were_trained_again(finished: Path, tmp_path: Path) -> None:
    more = {"budget": {"labels": 22, "initial": 8, "batch": 6, "repeats": 2}}
    for name in ("straight", "restored"):
        shutil.copytree(finished / "run", tmp_path / name / "run")
    (tmp_path / "restored" / "run" / "arms" / "active" / "repeat-0" / "round-002" / "member-0.pt").unlink()
    for name in ("straight", "restored"):
        run(tmp_path / name, **more)
    assert outcome(tmp_path / "restored") == outcome(tmp_path / "straight")


def test_a_damaged_member_is_named_with_the_remedy(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    path = RunDirectory(tmp_path / "run").member("active", 0, 2, 1)
    path.write_bytes(path.read_bytes()[:100])
    more = {"budget": {"labels": 22, "initial": 8, "batch": 6, "repeats": 2}}
    with pytest.raises(
        InputError, match=rf"{path} must be a trained member but got damage \(.*; remove it and run again"
    ):
        run(tmp_path, **more)
    path.unlink()
    run(tmp_path, **more)


def test_damaged_force_constants_of_a_run_are_named_with_the_remedy(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    path = RunDirectory(tmp_path / "run").system("KBr")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"{path} must hold the force constants .* but got damage \(.* or remove it"):
        run(tmp_path, budget={"labels": 22, "initial": 8, "batch": 6, "repeats": 2})


def test_a_label_that_was_trained_on_is_not_silently_replaced_by_a_failure(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    key = final(tmp_path).picks[Step("random", 1, 0)][2].key
    ledger = Ledger(tmp_path / "run" / "labels")
    label = ledger.get(key)
    assert isinstance(label, Label)
    shutil.rmtree(ledger.directory(key))
    with ledger.workdir(key) as workdir:
        ledger.put(key, label.configuration, Failure("crashed", "out of memory\nat line 3"), workdir)
    with pytest.raises(Paused, match=rf"label {key}, .* got a failure .*\(out of memory\); restore"):
        run(tmp_path)


def test_training_begins_before_the_labels_of_all_trajectories_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course: list[str] = []

    def told(name: str, function: Any) -> Any:
        def telling(*arguments: Any) -> Any:
            course.append(name)
            return function(*arguments)

        return telling

    for name in ("dataset_of", "fit_member"):
        monkeypatch.setattr(f"activeph.training.{name}", told(name, getattr(activeph.training, name)))
    run(tmp_path, budget={"labels": 8, "initial": 8, "batch": 8, "repeats": 1})
    one = ["dataset_of", "fit_member", "fit_member"]
    assert "".join(course).count("".join(one * 3)) == 1


def test_a_resumed_campaign_opens_no_record_that_it_has_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"labels": 16, "initial": 8, "batch": 8, "repeats": 1}
    run(tmp_path, budget=budget)
    before = outcome(tmp_path)
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    opened: list[str] = []
    get = Ledger.get

    def watched(self: Ledger, key: str) -> Any:
        opened.append(key)
        return get(self, key)

    monkeypatch.setattr(Ledger, "get", watched)
    for event in ("train", "select"):  # where training, and where choosing, comes next
        cut = next(n for n, line in enumerate(lines) if f'"event":"{event}"' in line and '"round":1' in line)
        journal.write_text("".join(lines[:cut]))
        opened.clear()
        run(tmp_path, budget=budget)
        assert outcome(tmp_path) == before
        first_round = {pick.key for step, picks in final(tmp_path).picks.items() for pick in picks if step.round == 0}
        assert not first_round.intersection(opened)
        assert bool(opened) == (event == "select")  # the batch itself is labelled anew
    (tmp_path / "run" / "labels.pack").unlink()
    journal.write_text("".join(lines[:cut]))
    run(tmp_path, budget=budget)
    assert outcome(tmp_path) == before


def test_a_goal_ends_a_trajectory_early(tmp_path: Path) -> None:
    run(tmp_path, budget={"labels": 16, "initial": 8, "batch": 6, "repeats": 1, "target_error": {"band_gap": 5.0}})
    state = final(tmp_path)
    assert {step.round for step in state.picks} == {0}


def test_a_larger_budget_continues_a_finished_run(tmp_path: Path) -> None:
    run(tmp_path, budget={"labels": 14, "initial": 8, "batch": 6, "repeats": 1})
    first = outcome(tmp_path)
    run(tmp_path, budget={"labels": 20, "initial": 8, "batch": 6, "repeats": 2})
    state = final(tmp_path)
    assert len(state.spent(Trajectory("active", 0))) == 20
    assert len(state.spent(Trajectory("active", 1))) == 20
    assert all(state.picks[step] == picks for step, picks in first["picks"].items())


def test_a_changed_setting_is_refused_on_resume(tmp_path: Path) -> None:
    run(tmp_path, budget={"labels": 8, "initial": 8, "batch": 4, "repeats": 1})
    with pytest.raises(InputError, match="seed must stay 0"):
        run(tmp_path, budget={"labels": 8, "initial": 8, "batch": 4, "repeats": 1}, seed=5)


def test_a_pool_that_runs_dry_ends_the_trajectory(tmp_path: Path) -> None:
    run(tmp_path, budget={"labels": 100, "initial": 30, "batch": 40, "repeats": 1})
    state = final(tmp_path)
    assert len(state.spent(Trajectory("active", 0))) == 60  # 80 structures less 20 of the test set
    assert len(state.spent(Trajectory("random", 0))) == 40


def test_a_test_set_that_takes_all_candidates_is_refused_before_anything_is_chosen(tmp_path: Path) -> None:
    greedy = {"sample": {"kind": "replay", "file": str(DATA / "phonon.extxyz")}, "n": 500}
    with pytest.raises(InputError, match="test.n must leave candidates to arm active but got 80, .*; lower test.n"):
        run(tmp_path, test=greedy)
    assert events(tmp_path) == []
    run(tmp_path, test=greedy | {"n": 20}, budget={"labels": 8, "initial": 8, "batch": 4, "repeats": 1})


@pytest.mark.parametrize("has_force_constants", [True, False])
def test_a_labeler_without_a_target_is_refused_at_its_first_label(tmp_path: Path, has_force_constants: bool) -> None:
    label = {"kind": "ase", "calculator": "ase.calculators.lj:LennardJones"}
    systems = campaign()["systems"]
    if not has_force_constants:
        del systems[0]["force_constants"]
    with pytest.raises(InputError, match="labeler ase must give the target band_gap but got nan for label .*; remove"):
        run(tmp_path, label=label, systems=systems)
    assert len(list(Ledger(tmp_path / "run" / "labels").keys())) == 1
    assert "band_gap" in (tmp_path / "run" / "stopped.txt").read_text()


def holey(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a campaign whose labeler knows two thirds of the structures: the other calculations fail."""
    folder.mkdir(exist_ok=True)
    content = campaign(**changes)
    for number, name in enumerate(("phonon.extxyz", "random.extxyz")):
        lines = (DATA / name).read_text().splitlines(keepends=True)
        frames = ["".join(lines[start : start + 18]) for start in range(0, len(lines), 18)]
        (folder / name).write_text("".join(frame for row, frame in enumerate(frames) if row % 3))
        content["label"]["files"][number] = str(folder / name)
    return content


def run_holey(folder: Path, **changes: Any) -> State:
    run_campaign(write(folder, holey(folder, **changes)), folder / "run", NoProgress())
    return final(folder)


@pytest.fixture(scope="module")
def with_failures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failures")
    run_holey(folder)
    return folder


def test_failures_are_replaced_and_cost_no_label(with_failures: Path) -> None:
    state, ledger = final(with_failures), Ledger(with_failures / "run" / "labels")
    states = dict(ledger.states())
    assert state.test is not None
    assert len(state.test) == 20
    gone = {each.pick.key for each in state.set_aside[None]}
    for arm in ("active", "phonon", "random"):
        for repeat in (0, 1):
            trajectory = Trajectory(arm, repeat)
            assert [len(state.picks[step]) for step in state.steps(trajectory)] == [8, 6, 2]
            picks = [*state.test, *state.spent(trajectory)]
            assert all(states[pick.key] == "label" for pick in picks)
            lost = {each.pick.key for each in state.replaced(trajectory)}
            assert all(states[key] == "failure" for key in lost)
            assert len({pick.key for pick in picks} | lost | gone) == len(picks) + len(lost | gone)
    assert gone
    assert {each.reason for each in state.set_aside[None]} == {"missing"}


def test_metrics_and_selection_files_tell_of_replacements(with_failures: Path) -> None:
    state = final(with_failures)
    for step, metrics in state.evaluated.items():
        trajectory = Trajectory(step.arm, step.repeat)
        assert metrics["labels"] == len(state.spent(trajectory, before=step.round + 1))
        assert metrics["failures"] == len(state.replaced(trajectory, before=step.round + 1))
        folder = RunDirectory(with_failures / "run").round(*step)
        selection = json.loads((folder / "selection.json").read_text())
        assert [one["key"] for one in selection["candidates"]] == [pick.key for pick in state.picks[step]]
        gone = [one["key"] for one in selection["set_aside"]]
        assert gone == [each.pick.key for each in state.set_aside.get(step, ())]
    assert sum(metrics["failures"] for metrics in state.evaluated.values())


def test_equal_samplers_begin_with_equal_sets_also_where_some_fail(with_failures: Path) -> None:
    state = final(with_failures)
    assert state.picks[Step("active", 0, 0)] == state.picks[Step("phonon", 0, 0)]
    assert Step("active", 0, 0) in state.set_aside


def test_replacements_do_not_depend_on_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = {"labels": 14, "initial": 8, "batch": 6, "repeats": 1}
    run_holey(tmp_path / "straight", budget=budget)
    append, left = Journal.append, [0]

    def dying(self: Journal, event: dict[str, Any]) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        append(self, event)

    monkeypatch.setattr(Journal, "append", dying)
    while True:
        left[0] = 4
        try:
            run_holey(tmp_path / "killed", budget=budget)
            break
        except Killed:
            continue
    monkeypatch.setattr(Journal, "append", append)
    assert len(final(tmp_path / "straight").set_aside) > 1
    assert final(tmp_path / "killed").set_aside == final(tmp_path / "straight").set_aside
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")


def test_a_pool_without_spares_leaves_smaller_batches(tmp_path: Path) -> None:
    state = run_holey(tmp_path, budget={"labels": 100, "initial": 30, "batch": 40, "repeats": 1})
    assert state.test is not None
    # a third of the 40 structures of the random file have no label
    assert len(state.spent(Trajectory("random", 0))) == 26
    assert len(state.replaced(Trajectory("random", 0))) == 14


def with_nonsense(folder: Path) -> dict[str, Any]:
    """Return a campaign whose labeler says absurd energies for every eighth structure, as if in another unit."""
    content = campaign(budget={"labels": 14, "initial": 8, "batch": 6, "repeats": 1})
    for number, name in enumerate(("phonon.extxyz", "random.extxyz")):
        text = (DATA / name).read_text().splitlines(keepends=True)
        for row in range(1, len(text), 8 * 18):
            text[row] = re.sub(r"(?<= )energy=(\S+)", lambda found: f"energy={float(found[1]) / 27.2114}", text[row])
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("".join(text))
        content["label"]["files"][number] = str(folder / name)
    return content


def test_absurd_labels_are_set_aside_and_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, with_nonsense(tmp_path))
    run_campaign(path, tmp_path / "run", NoProgress())
    state, ledger = final(tmp_path), Ledger(tmp_path / "run" / "labels")
    aside = [each for gone in state.set_aside.values() for each in gone]
    assert aside
    assert {each.reason for each in aside} == {"outlier"}
    assert all("away from the work of its forces" in each.message for each in aside)
    doubted = {each.pick.key for each in aside}
    assert all(ledger.state(key) == "label" for key in doubted)
    for arm in ("active", "phonon", "random"):
        spent = state.spent(Trajectory(arm, 0))
        assert len(spent) == 14
        assert not doubted & {pick.key for pick in spent}
    known = {entry.key: entry.label.energy for entry in campaign_entries(state, ledger)}
    assert max(known.values()) < min(ledger.get(key).energy for key in doubted)  # type: ignore[union-attr]


def test_an_accepted_label_trains_from_the_next_round_on(tmp_path: Path) -> None:
    content = with_nonsense(tmp_path)
    run_campaign(write(tmp_path, content), tmp_path / "run", NoProgress())
    state = final(tmp_path)
    step = next(step for step in state.set_aside if step is not None)
    key = state.set_aside[step][0].pick.key
    with pytest.raises(InputError, match="must be a label that was set aside"):
        accept(RunDirectory(tmp_path / "run"), state.picks[step][0].key)
    accept(RunDirectory(tmp_path / "run"), key)
    content["budget"]["labels"] = 18
    run_campaign(write(tmp_path, content), tmp_path / "run", NoProgress())
    state = final(tmp_path)
    spent = [pick.key for pick in state.spent(Trajectory(step.arm, 0))]
    assert key in spent
    assert len(spent) == 18  # the accepted one is one of them
    with pytest.raises(InputError, match="must be a label that was set aside"):
        accept(RunDirectory(tmp_path / "run"), key)
