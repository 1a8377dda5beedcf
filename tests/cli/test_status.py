"""What `activeph status` says of campaigns that fail, wait, doubt and run out of core-hours."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from activeph.cli.standing import _jobs, _throughput
from activeph.execute.parsl_executor import Job
from activeph.rundir import RunDirectory
from activeph.state import Pick, SetAside, Step, fold, replacement_event
from activeph.store.journal import Journal
from activeph.store.ledger import ledger_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "status.md"


@pytest.fixture
def run(finished_run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(finished_run, folder / "runs" / "tiny"))


def told(activeph) -> dict:
    return json.loads(activeph("status", "runs/tiny", "--json").out)


def set_aside(run: Path, reason: str) -> str:
    """Write into the journal that a pick was replaced by one that is not calculated yet; return its key."""
    journal = Journal(run / "journal.jsonl")
    state = fold(journal.events())
    step = Step("random", 0, 1)
    old = state.picks[step][0]
    new = Pick("new", old.system, 0, 300.0, "f" * 24, None)
    journal.append(replacement_event(step, [SetAside(old, reason, "why it is so")], [new]))
    return old.key


def test_every_key_is_documented(activeph, run: Path) -> None:
    set_aside(run, "crashed")
    facts = told(activeph)
    text = DOCUMENT.read_text()
    assert f"`{facts['schema']}`" in text
    documented = set(re.findall(r"`(\w+)`", text))
    repeat = facts["arms"]["random"][0]
    parts = (facts["preparation"], facts["labels"], facts["core_hours"], facts["quarantined"][0])
    for names in (facts, *parts, repeat, repeat["labels"]):
        assert set(names) <= documented


def test_failures_are_told_by_class_with_their_reason(activeph, run: Path) -> None:
    key = set_aside(run, "unconverged")
    facts = told(activeph)
    assert facts["failures"] == {"unconverged": 1}
    assert facts["quarantined"] == [{"key": key, "system": "Cu", "kind": "unconverged", "message": "why it is so"}]
    assert facts["labels"]["failed"] == 1
    assert facts["labels"]["queued"] == 1
    assert facts["arms"]["random"][0]["labels"] == {"done": 3, "failed": 1, "waiting": 1}
    shown = activeph("status", "runs/tiny").out
    assert "1 failed and replaced" in shown
    assert "by class: 1 unconverged" in shown
    assert f"failed: {key[:12]} unconverged: why it is so" in shown


def test_outliers_are_told_and_taken_back(activeph, run: Path) -> None:
    key = set_aside(run, "outlier")
    assert told(activeph)["outliers"][0]["key"] == key
    assert "activeph ledger accept" in activeph("status", "runs/tiny").out
    assert activeph("ledger", "accept", "runs/tiny", key[:8]).out == f"{key} accepted\n"
    assert told(activeph)["outliers"] == []
    again = activeph("ledger", "accept", "runs/tiny", key)
    assert again.code == 2
    assert "must be a label that was set aside as an outlier but got" in again.err


def test_calculations_under_way_are_counted(activeph, run: Path) -> None:
    set_aside(run, "crashed")
    with ledger_of(run).workdir("f" * 24):
        assert told(activeph)["labels"] == {"done": 11, "failed": 1, "running": 1, "queued": 0}


def test_labels_of_the_preparation_are_told_from_the_first_on(activeph, run: Path) -> None:
    facts = told(activeph)
    assert facts["preparation"].items() >= {"done": 2, "failed": 0, "running": 0}.items()  # finite displacements
    assert 0 < facts["preparation"]["core_hours"] < facts["core_hours"]["spent"]
    assert "\npreparation: 2 labels, " in activeph("status", "runs/tiny").out
    (run / "journal.jsonl").unlink()  # as if nothing had been chosen yet
    with ledger_of(run).workdir("f" * 24):
        facts = told(activeph)
        assert (facts["step"], facts["preparation"]["running"]) == ("preparing", 1)
        assert ", 1 being computed, " in activeph("status", "runs/tiny").out


def test_throughput_time_left_and_cost(activeph, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = told(activeph)
    assert facts["labels_per_hour"] > 0
    assert facts["labels_left"] == 0
    assert 0 < facts["core_hours"]["spent"] < 1
    assert facts["core_hours"]["limit"] is None
    journal = run / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))  # before the last measurement
    set_aside(run, "crashed")
    monkeypatch.setattr("activeph.cli.standing.holder", lambda path: {"host": "here", "pid": 1, "since": "now"})
    facts = told(activeph)
    assert facts["state"] == "running"
    assert facts["labels_left"] == 1
    assert facts["seconds_left"] == pytest.approx(3600 / facts["labels_per_hour"])
    assert "left" in activeph("status", "runs/tiny").out


def test_throughput_is_that_of_the_present_driver(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    monkeypatch.setattr("activeph.cli.standing.time.time", lambda: now)

    def attempts(*ends: float) -> list[dict]:
        return [{"outcome": "label", "seconds": 60.0, "end": now + end} for end in ends]

    def driver(minutes: int) -> dict:
        return {"since": datetime.fromtimestamp(now - 60 * minutes, UTC).isoformat(timespec="seconds")}

    week = -7 * 24 * 3600
    before = attempts(week, week + 60, week + 120)  # one a minute, until it was stopped a week ago
    assert _throughput(before, None) == pytest.approx(60)
    assert _throughput(before, driver(5)) == pytest.approx(60)
    assert _throughput(before + attempts(-240, -120, 0), driver(5)) == pytest.approx(36)
    assert _throughput(before + attempts(-240), driver(5)) == pytest.approx(12)  # nothing has come since
    assert _throughput(attempts(600, 720), driver(5)) == pytest.approx(40)  # the clock was put back
    assert _throughput([], driver(5)) is None


def test_a_campaign_stops_at_its_core_hours_says_so_and_goes_on_with_more(activeph, folder: Path) -> None:
    text = (folder / "tiny.yaml").read_text()
    (folder / "tiny.yaml").write_text(text.replace("repeats: 1", "repeats: 1, core_hours: 0.0000001"))
    stopped = activeph("run", "tiny.yaml")
    assert stopped.code == 3
    assert re.search(r"of 1e-07 core-hours are spent.*; raise budget.core_hours and run again", stopped.err)
    facts = told(activeph)
    assert facts["state"] == "stopped"
    assert "raise budget.core_hours" in facts["reason"]
    assert facts["core_hours"]["spent"] > facts["core_hours"]["limit"] == 1e-7
    assert "stopped" in activeph("status", "runs/tiny").out.splitlines()[0]
    assert "raise budget.core_hours" in activeph("status", "runs/tiny").out.splitlines()[0]
    (folder / "tiny.yaml").write_text(text.replace("repeats: 1", "repeats: 1, core_hours: 100"))
    assert activeph("run", "tiny.yaml").code == 0
    assert not RunDirectory(folder / "runs" / "tiny").stopped.exists()
    assert told(activeph)["reason"] is None


def test_check_warns_of_the_limit_and_tells_the_disk(activeph, folder: Path) -> None:
    text = (folder / "tiny.yaml").read_text()
    (folder / "tiny.yaml").write_text(text.replace("repeats: 1", "repeats: 1, core_hours: 0.0000001"))
    said = activeph("check", "tiny.yaml").out
    assert "core-hours      disk" in said
    assert re.search(r"at most +\d+ .* kB", said)
    assert "the campaign will pause at its limit of 1e-07 core-hours" in said


def test_campaigns_that_share_a_ledger_pay_once(activeph, folder: Path) -> None:
    text = (folder / "tiny.yaml").read_text() + "ledger: shared\n"
    for name in ("first", "second"):
        (folder / f"{name}.yaml").write_text(text)
        assert activeph("run", f"{name}.yaml").code == 0
    first, second = (ledger_of(folder / "runs" / name) for name in ("first", "second"))
    assert os.path.samefile(first.root, second.root)
    assert len(first.calculations()) == len(list(first.keys()))
    assert second.calculations() == []  # its own account, and nothing on it
    assert activeph("ledger", "verify", "shared").code == 0
    (folder / "first.yaml").write_text(text.replace("shared", "elsewhere"))
    refused = activeph("run", "first.yaml")
    assert refused.code == 2
    assert "ledger must" in refused.err


def test_jobs_are_told_with_the_reason_why_they_do_not_run(
    activeph, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("7", "PENDING", "Resources")
    monkeypatch.setattr("activeph.execute.slurm_executor.SlurmExecutor.jobs", lambda self, directory: [job])
    assert told(activeph)["jobs"] == []  # nobody drives it
    assert _jobs({"execute": {"kind": "slurm"}}, RunDirectory(run)) == [job._asdict()]
    assert _jobs({"execute": {"kind": "processes"}}, RunDirectory(run)) == []
