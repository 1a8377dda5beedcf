from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from activeph.config import load_campaign
from activeph.config.resume import Difference, check_same_crystal, differences, open_run, resolved
from activeph.errors import InputError
from activeph.rundir import RunDirectory, read_resolved

BASE = "systems: [KBr.vasp]\nlabel: xtb\n"
Write = Callable[[str], Path]


def begin(write: Write, folder: Path, text: str = BASE) -> RunDirectory:
    """Return the directory of a run that has chosen its test set."""
    directory = RunDirectory(folder / "run")
    open_run(load_campaign(write(text)), directory)
    directory.journal.write_text('{"event":"test","picks":[]}\n')
    return directory


def test_the_resolved_file_says_everything(write: Write, folder: Path) -> None:
    directory = RunDirectory(folder / "runs" / "c")
    open_run(load_campaign(write(BASE)), directory)
    content = read_resolved(directory.campaign)
    assert content["systems"][0]["structure"] == str(folder / "KBr.vasp")
    assert content["budget"]["labels"] == 250
    assert content["label"]["kind"] == "xtb"
    assert {"python", "activeph", "torch", "numpy", "phonopy", "tblite"} <= set(content["versions"])
    assert len(content["files"]["systems.0.structure"]) == 12


def test_the_resolved_file_is_a_campaign_file_itself(write: Write, folder: Path) -> None:
    campaign = load_campaign(write(BASE))
    directory = RunDirectory(folder / "run")
    open_run(campaign, directory)
    assert resolved(load_campaign(directory.campaign)) == resolved(campaign)


def test_nothing_differs_when_nothing_changed(write: Write) -> None:
    campaign = load_campaign(write(BASE))
    assert differences(resolved(campaign), yaml.safe_load(yaml.safe_dump(resolved(campaign)))) == []


@pytest.mark.parametrize(
    ("more", "key", "allowed"),
    [
        ("budget: {labels: 300}\n", "budget.labels", True),
        ("budget: {labels: 200}\n", "budget.labels", False),
        ("budget: {repeats: 4}\n", "budget.repeats", True),
        ("budget: {repeats: 2}\n", "budget.repeats", False),
        ("budget: {batch: 20}\n", "budget.batch", False),
        ("budget: {target_error: {band_gap: 0.1}}\n", "budget.target_error.band_gap", True),
        ("execute: serial\n", "execute.kind", True),
        ("execute: {kind: processes, workers: 3}\n", "execute.workers", True),
        ("seed: 1\n", "seed", False),
        ("pool: 100\n", "pool", False),
        ("temperatures: [300]\n", "temperatures", False),
        ("label: {kind: xtb, accuracy: 0.1}\n", "label.accuracy", False),
        ("model: {kind: gnn, members: 3}\n", "model.members", False),
    ],
)
def test_what_may_change(more: str, key: str, allowed: bool, write: Write) -> None:
    base = BASE.replace("label: xtb\n", "") + ("" if "label:" in more.replace("labels:", "") else "label: xtb\n")
    old = resolved(load_campaign(write(BASE)))
    new = resolved(load_campaign(write(base + more)))
    found = {change.key: change.allowed for change in differences(old, new)}
    assert found[key] is allowed


def test_until_something_is_chosen_everything_may_change(write: Write, folder: Path) -> None:
    """A first start may end with a refusal, of imaginary modes for example, whose remedy is another campaign file."""
    directory = RunDirectory(folder / "run")
    open_run(load_campaign(write(BASE)), directory)
    computed, label = directory.system("KBr"), directory.labels / "3f" / "label.json"
    for path in (computed, label):
        path.parent.mkdir(parents=True)
        path.touch()
    open_run(load_campaign(write(BASE)), directory)
    assert computed.exists()
    open_run(load_campaign(write(BASE + "pool: 100\n")), directory)
    assert read_resolved(directory.campaign)["pool"] == 100
    assert not computed.exists()
    assert label.exists()


def test_a_refused_change_is_named(write: Write, folder: Path) -> None:
    directory = begin(write, folder)
    before = directory.campaign.read_bytes()
    with pytest.raises(InputError) as caught:
        open_run(load_campaign(write(BASE + "pool: 100\n")), directory)
    assert str(caught.value) == (
        "pool must stay 2000, as run was begun with, but got 100; restore it, or start anew with another --output"
    )
    assert directory.campaign.read_bytes() == before


def test_defaults_that_follow_a_raised_budget_are_to_be_written(write: Write, folder: Path) -> None:
    directory = begin(write, folder, BASE + "budget: {labels: 10}\n")
    with pytest.raises(InputError, match=r"^budget.initial must stay 10, .* but got 25; write 'initial: 10', or start"):
        open_run(load_campaign(write(BASE + "budget: {labels: 50}\n")), directory)
    open_run(load_campaign(write(BASE + "budget: {labels: 50, initial: 10, batch: 10}\n")), directory)


def forget(directory: RunDirectory, *keys: Sequence[str | int]) -> None:
    """Take keys out of a run's resolved file, as if it were of a version that did not know them."""
    content = read_resolved(directory.campaign)
    for *path, last in keys:
        part: Any = content
        for name in path:
            part = part[name]
        del part[last]
    directory.campaign.write_text(yaml.safe_dump(content))


XTB = "label: xtb\n"
CRYSTAL = "systems: [{structure: KBr.vasp, %s}]\n" + XTB
NEWER: dict[str, tuple[tuple[str | int, ...], str, str]] = {  # key, what a user writes, what is answered
    "in a section": (
        ("systems", 0, "renormalise", "draws"),
        CRYSTAL % "renormalise: {draws: 9}",
        "systems.0.renormalise.draws must stay 8",
    ),
    "a whole section": (
        ("systems", 0, "quasi_harmonic"),
        CRYSTAL % "quasi_harmonic: {statistics: classical}",
        "systems.0.quasi_harmonic.statistics must stay 'quantum'",
    ),
    "a kind": (("model",), BASE + "model: {kind: gnn}\n", "model.kind must stay 'modes-gnn'"),
    "in a kind": (("model", "members"), BASE + "model: {members: 3}\n", "model.members must stay 5"),
    "in a kind of a kind": (
        ("test", "sample", "statistics"),
        BASE + "test: {sample: {kind: phonon, statistics: classical}}\n",
        "test.sample.statistics must stay 'quantum'",
    ),
    "null by default": (
        ("test", "temperatures"),
        BASE + "test: {temperatures: [150, 300, 450, 600]}\n",
        "test.temperatures must stay nothing",
    ),
    "a kind or null": (("low_fidelity",), BASE + "low_fidelity: xtb\n", "low_fidelity.kind must stay nothing"),
    "that follows another": (
        ("budget", "initial"),
        BASE + "budget: {labels: 10, initial: 5, batch: 10}\n",
        "budget.initial must stay 10",
    ),
}


@pytest.mark.parametrize(("key", "written", "answer"), NEWER.values(), ids=NEWER.keys())
def test_a_key_of_a_newer_version_stays_at_its_default(
    key: tuple[str | int, ...], written: str, answer: str, write: Write, folder: Path
) -> None:
    directory = begin(write, folder, BASE + "budget: {labels: 10}\n" if key[0] == "budget" else BASE)
    whole = read_resolved(directory.campaign)
    forget(directory, key)
    with pytest.raises(InputError, match=f"^{answer}, as run was begun with, but got"):
        open_run(load_campaign(write(written, "other.yaml")), directory)
    open_run(load_campaign(folder / "c.yaml"), directory)
    assert read_resolved(directory.campaign) == whole


def test_a_crystal_of_a_run_of_an_older_version_is_the_same(write: Write, folder: Path) -> None:
    directory = begin(write, folder)
    forget(directory, ("systems", 0, "renormalise", "draws"), ("label", "accuracy"))
    check_same_crystal(load_campaign(folder / "c.yaml"), "KBr", directory)


def test_an_allowed_change_is_kept(write: Write, folder: Path) -> None:
    directory = begin(write, folder)
    open_run(load_campaign(write(BASE + "budget: {labels: 300}\n")), directory)
    assert read_resolved(directory.campaign)["budget"]["labels"] == 300


def test_how_labels_are_computed_may_change_but_not_what(write: Write, folder: Path) -> None:
    label = "systems: [KBr.vasp]\nlabel: {kind: files, directory: DIR, name: NAME}\n"
    directory = begin(write, folder, label.replace("DIR", "here").replace("NAME", "hse"))
    moved = label.replace("DIR", "there").replace("NAME", "hse")
    open_run(load_campaign(write(moved)), directory)
    assert read_resolved(directory.campaign)["label"]["directory"] == str(folder / "there")
    with pytest.raises(InputError, match=r"^label.name must stay 'hse', as run was begun with, but got 'pbe'"):
        open_run(load_campaign(write(moved.replace("hse", "pbe"))), directory)


def test_a_moved_structure_is_the_same_but_a_changed_one_is_not(write: Write, folder: Path) -> None:
    directory = begin(write, folder)
    (folder / "KBr.vasp").rename(folder / "structures" / "KBr.vasp")
    moved = write("systems: [structures/KBr.vasp]\nlabel: xtb\n")
    open_run(load_campaign(moved), directory)
    text = (folder / "structures" / "KBr.vasp").read_text()
    (folder / "structures" / "KBr.vasp").write_text(text.replace("3.3875", "3.4"))
    with pytest.raises(
        InputError, match="the file under systems.0.structure must stay what run was begun with but got"
    ):
        open_run(load_campaign(moved), directory)


def test_another_version_is_refused_by_name(write: Write, folder: Path) -> None:
    directory = begin(write, folder)
    campaign = load_campaign(folder / "c.yaml")
    content = read_resolved(directory.campaign)
    content["versions"]["torch"] = "1.0"
    directory.campaign.write_text(yaml.safe_dump(content))
    with pytest.raises(
        InputError, match=r"^run must go on with torch 1\.0 but got .*; install that version, or start anew"
    ):
        open_run(campaign, directory)


def test_another_version_of_a_code_is_refused(write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs and their data files are no packages of Python: only the labeler's fingerprint knows them."""
    text = "systems: [KBr.vasp]\nlabel: {kind: files, directory: here, name: hse}\n"
    directory = begin(write, folder, text)
    monkeypatch.setattr("activeph.label.files.FilesLabeler.fingerprint", "another")
    with pytest.raises(InputError, match="^run must go on with the labeler that it was begun with but got another"):
        open_run(load_campaign(folder / "c.yaml"), directory)
    content = read_resolved(directory.campaign)
    del content["fingerprint"]  # begun before it was recorded
    directory.campaign.write_text(yaml.safe_dump(content))
    open_run(load_campaign(folder / "c.yaml"), directory)


@pytest.mark.parametrize("text", ["", "- a\n", "{", "\x00"])
def test_a_damaged_resolved_file_is_refused(text: str, folder: Path) -> None:
    (folder / "campaign.yaml").write_text(text)
    with pytest.raises(InputError, match="campaign.yaml must be a resolved campaign but got"):
        read_resolved(folder / "campaign.yaml")


def test_the_damaged_line_is_named_without_the_parsers_words(folder: Path) -> None:
    (folder / "campaign.yaml").write_text("name: a\nseed: [1\nlabel: xtb\n")
    with pytest.raises(InputError) as caught:
        read_resolved(folder / "campaign.yaml")
    assert str(caught.value) == (
        f"{folder}/campaign.yaml must be a resolved campaign but got no YAML in line 3; restore it from a copy"
    )


def test_a_crystal_is_the_same_whatever_changes_around_it(write: Write, folder: Path) -> None:
    directory = RunDirectory(folder / "run")
    open_run(load_campaign(write("systems: [KBr.vasp, Cu.vasp]\nlabel: xtb\n")), directory)
    other = "systems: [Cu.vasp, {structure: KBr.vasp, supercell: [1, 1, 1]}]\nlabel: xtb\npool: 100\n"
    check_same_crystal(load_campaign(write(other)), "Cu", directory)
    with pytest.raises(InputError, match=r"^systems\.KBr\.supercell must stay .* as run was begun with, but got"):
        check_same_crystal(load_campaign(write(other)), "KBr", directory)
    strict = load_campaign(write(other.replace("label: xtb", "label: {kind: xtb, accuracy: 0.1}")))
    with pytest.raises(InputError, match=r"^label\.accuracy must stay"):
        check_same_crystal(strict, "Cu", directory)


def test_a_key_that_came_or_went_is_a_difference() -> None:
    assert differences({"a": 1}, {"b": 2}) == [Difference("a", 1, None), Difference("b", None, 2)]
