"""Where a campaign stands, read from its journal, its ledger's file names and its lock: no model, no labels opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from activeph.rundir import RunDirectory, read_resolved
from activeph.state import State, Step, Trajectory, fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger
from activeph.store.lock import holder

SCHEMA = "activeph-status-1"
LAST_FAILURES = 5


def standing(directory: RunDirectory) -> dict[str, Any]:
    """Return where the campaign stands as plain values; the keys are stable under ``schema``.

    ``state`` is ``complete``, ``running`` or ``stopped``. Labels count calculations that were asked for: ``done`` and
    ``failed`` are in the ledger, ``waiting`` are not yet.
    """
    campaign = read_resolved(directory.campaign)
    journal = Journal(directory.journal)
    state, ledger = fold(journal.events()), Ledger(directory.labels)
    outcomes = {key: ledger.state(key) for key in _keys(state)}
    arms = {arm: _arm(arm, campaign, state, outcomes) for arm in campaign.get("arms", {})}
    complete = bool(arms) and all(repeat["finished"] for repeats in arms.values() for repeat in repeats)
    driver = holder(directory.root)
    return {
        "schema": SCHEMA,
        "name": campaign.get("name"),
        "directory": str(directory.root),
        "state": "complete" if complete else "running" if driver else "stopped",
        "driver": {key: driver.get(key) for key in ("host", "pid", "since")} if driver else None,
        "updated": _updated(directory),
        "round": max((step.round for step in state.picks), default=None),
        "step": None if complete else _step(state),
        "labels": _counts(outcomes, _keys(state)),
        "computing": len(ledger.running()),
        "test": _counts(outcomes, [pick.key for pick in state.test or ()]),
        "arms": arms,
        "failures": _failures(ledger),
    }


def _keys(state: State) -> list[str]:
    picks = [pick for picks in state.picks.values() for pick in picks]
    return list(dict.fromkeys(pick.key for pick in [*(state.test or ()), *picks]))


def _counts(outcomes: Mapping[str, str | None], keys: list[str]) -> dict[str, int]:
    found = [outcomes[key] for key in keys]
    return {"done": found.count("label"), "failed": found.count("failure"), "waiting": found.count(None)}


def _arm(
    arm: str, campaign: Mapping[str, Any], state: State, outcomes: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    budget = campaign.get("budget", {})
    return [
        _repeat(Trajectory(arm, repeat), budget, state, outcomes) for repeat in range(int(budget.get("repeats", 0)))
    ]


def _repeat(
    trajectory: Trajectory, budget: Mapping[str, Any], state: State, outcomes: Mapping[str, str | None]
) -> dict[str, Any]:
    steps = state.steps(trajectory)
    spent = [pick.key for pick in state.spent(trajectory)]
    measured = [step for step in steps if step in state.evaluated]
    metrics = state.evaluated[measured[-1]] if measured else {}
    return {
        "repeat": trajectory.repeat,
        "round": steps[-1].round if steps else None,
        "labels": _counts(outcomes, spent),
        "budget": budget.get("labels"),
        "finished": _finished(steps, len(spent), budget, state),
        "evaluated_labels": metrics.get("labels"),
        "mae": {name: values.get("mae") for name, values in metrics.get("targets", {}).items()},
    }


def _finished(steps: list[Step], spent: int, budget: Mapping[str, Any], state: State) -> bool:
    """Return whether a repeat has spent its budget, met its goal or emptied its pool, and has measured the end."""
    if not steps or steps[-1] not in state.evaluated:
        return False
    goals = budget.get("target_error") or {}
    measured = state.evaluated[steps[-1]]["targets"]
    met = bool(goals) and all(measured[name]["mae"] <= goal for name, goal in goals.items())
    return met or spent >= budget.get("labels", 0) or not state.picks[steps[-1]]


def _step(state: State) -> str:
    """Return what is being done, or comes next, in the last round."""
    if not state.picks:
        return "preparing"
    number = max(step.round for step in state.picks)
    steps = [step for step in state.picks if step.round == number]
    if any(step not in state.labelled for step in steps):
        return "labelling"
    if any(step not in state.trained for step in steps):
        return "training"
    return "testing" if any(step not in state.evaluated for step in steps) else "proposing"


def _failures(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the last calculations that gave no label, newest first, with their reasons."""
    failed = [item for item in ledger.calculations() if item.get("outcome") not in ("label", "duplicate")]
    found = []
    for item in failed[: -LAST_FAILURES - 1 : -1]:
        path = ledger.directory(str(item["key"])) / "failure.json"
        try:
            message = json.loads(path.read_text(encoding="utf-8")).get("message", "")
        except (OSError, ValueError):
            message = ""
        found.append({"key": item["key"], "kind": item["outcome"], "message": message})
    return found


def _updated(directory: RunDirectory) -> str | None:
    try:
        changed = directory.journal.stat().st_mtime
    except OSError:
        return None
    return datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")
