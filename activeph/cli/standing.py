"""Where a campaign stands, read from its journal, its ledger's file names and its lock: no model, no labels opened.

``docs/status.md`` says what each key means; keys are only ever added as long as :data:`SCHEMA` stays.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from activeph.report.metrics import goals_met
from activeph.rundir import RunDirectory, read_resolved
from activeph.state import OUTLIER, SetAside, State, Step, Trajectory, fold
from activeph.store.journal import Journal
from activeph.store.ledger import UNFINISHED, Ledger, ledger_of
from activeph.store.lock import holder

SCHEMA = "activeph-status-2"
RECENT = 100  # calculations that throughput is measured over
Attempts = Sequence[Mapping[str, Any]]


def standing(directory: RunDirectory) -> dict[str, Any]:
    """Return where the campaign stands as plain values; the keys are stable under ``schema``."""
    campaign = read_resolved(directory.campaign)
    state, ledger = fold(Journal(directory.journal).events()), ledger_of(directory.root)
    outcomes, running, attempts = dict(ledger.states()), set(ledger.running()), ledger.attempts()
    costs: Counter[str] = Counter()
    for attempt in attempts:
        costs[attempt["key"]] += attempt["seconds"] * attempt["cores"] / 3600
    arms = {arm: _arm(arm, campaign, state, outcomes, costs) for arm in campaign.get("arms", {})}
    complete = bool(arms) and all(repeat["finished"] for repeats in arms.values() for repeat in repeats)
    driver = holder(directory.root)
    status = "complete" if complete else "running" if driver else "stopped"
    aside = [each for gone in state.set_aside.values() for each in gone]
    left = _left(arms, state, outcomes, campaign)
    rate = _throughput(attempts, driver)
    return {
        "schema": SCHEMA,
        "name": campaign.get("name"),
        "directory": str(directory.root),
        "state": status,
        "driver": {key: driver.get(key) for key in ("host", "pid", "since")} if driver else None,
        "reason": _reason(directory) if status == "stopped" else None,
        "jobs": _jobs(campaign, directory) if status == "running" else [],
        "updated": _updated(directory),
        "round": max((step.round for step in state.picks), default=None),
        "step": None if complete else _step(state),
        "preparation": _preparation(state, campaign, outcomes, ledger, attempts),
        "labels": _counts(state, outcomes, running),
        "labels_left": left,
        "labels_per_hour": rate,
        "seconds_left": 3600 * left / rate if rate and status == "running" else None,
        "core_hours": {"spent": sum(costs.values()), "limit": (campaign.get("budget") or {}).get("core_hours")},
        "test": _counts(state, outcomes, running, [None]),
        "arms": arms,
        "failures": dict(Counter(each.reason for each in _distinct(aside) if each.reason != OUTLIER)),
        "retries": dict(Counter(one["outcome"] for one in attempts if one["outcome"] in UNFINISHED)),
        "quarantined": [_told(each) for each in _distinct(aside) if each.reason != OUTLIER],
        "outliers": [_told(each) for each in _distinct(aside) if each.reason == OUTLIER],
    }


def _counts(
    state: State,
    outcomes: Mapping[str, str],
    running: set[str],
    steps: Sequence[Step | None] | None = None,
) -> dict[str, int]:
    """Return how many different calculations are done, set aside, running and queued."""
    places = [None, *state.picks] if steps is None else steps
    wanted = {pick.key for step in places for pick in ((state.test or ()) if step is None else state.picks[step])}
    gone = {each.pick.key for step in places for each in state.set_aside.get(step, ())} - wanted
    waiting = [key for key in wanted if key not in outcomes]
    under_way = sum(key in running for key in waiting)
    failed = sum(outcomes.get(key) == "failure" for key in wanted)  # not yet replaced
    return {
        "done": len(wanted) - len(waiting) - failed,
        "failed": failed + len(gone),
        "running": under_way,
        "queued": len(waiting) - under_way,
    }


def _preparation(
    state: State, campaign: Mapping[str, Any], outcomes: Mapping[str, str], ledger: Ledger, attempts: Attempts
) -> dict[str, Any]:
    """Return what was calculated of crystals before the first round: by this campaign, and for no arm or test set."""
    cheap = str(campaign.get("fingerprint", "")).partition("+")[2]  # asked beside labels
    others = {one["key"] for one in attempts if cheap and str(one["sort"]).startswith(f"{cheap}-")}
    others |= {pick.key for step in (None, *state.picks) for pick in state.chosen(step)}
    own = [one for one in attempts if one["key"] not in others]
    found = Counter(outcomes.get(key) for key in {one["key"] for one in own})
    return {
        "done": found["label"],
        "failed": found["failure"],
        "running": 0 if state.test else len(ledger.running(own=True)),
        "core_hours": sum(one["seconds"] * one["cores"] / 3600 for one in own),
    }


def _arm(
    arm: str, campaign: Mapping[str, Any], state: State, outcomes: Mapping[str, str], costs: Mapping[str, float]
) -> list[dict[str, Any]]:
    budget = campaign.get("budget", {})
    repeats = range(int(budget.get("repeats", 0)))
    return [_repeat(Trajectory(arm, repeat), budget, state, outcomes, costs) for repeat in repeats]


def _repeat(
    trajectory: Trajectory,
    budget: Mapping[str, Any],
    state: State,
    outcomes: Mapping[str, str],
    costs: Mapping[str, float],
) -> dict[str, Any]:
    steps = state.steps(trajectory)
    spent = [pick.key for pick in state.spent(trajectory)]
    gone = [each.pick.key for each in state.replaced(trajectory)]
    measured = [step for step in steps if step in state.evaluated]
    metrics = state.evaluated[measured[-1]] if measured else {}
    done = sum(outcomes.get(key) == "label" for key in spent)
    failed = sum(outcomes.get(key) == "failure" for key in spent)
    return {
        "repeat": trajectory.repeat,
        "round": steps[-1].round if steps else None,
        "labels": {"done": done, "failed": failed + len(gone), "waiting": len(spent) - done - failed},
        "core_hours": sum(costs.get(key, 0.0) for key in [*spent, *gone]),
        "budget": budget.get("labels"),
        "finished": _finished(steps, len(spent), budget, state),
        "refused": _refused(steps, state),
        "evaluated_labels": metrics.get("labels"),
        "mae": {name: values.get("mae") for name, values in metrics.get("targets", {}).items()},
    }


def _refused(steps: list[Step], state: State) -> float | None:
    """Return the mean share of draws that the sampler's guards refused, None where it has none."""
    known = [state.refused[step] for step in steps if step in state.refused]
    return sum(known) / len(known) if known else None


def _finished(steps: list[Step], spent: int, budget: Mapping[str, Any], state: State) -> bool:
    """Return whether a repeat has spent its budget, met its goal or emptied its pool, and has measured the end."""
    if not steps or steps[-1] not in state.evaluated:
        return False
    met = goals_met(budget.get("target_error") or {}, state.evaluated[steps[-1]]["targets"])
    return met or spent >= budget.get("labels", 0) or not state.picks[steps[-1]]


def _left(
    arms: Mapping[str, list[dict[str, Any]]], state: State, outcomes: Mapping[str, str], campaign: Mapping[str, Any]
) -> int:
    """Return how many labels are still to be made at most: arms may share some, and may reach their goal earlier."""
    going = [repeat for repeats in arms.values() for repeat in repeats if not repeat["finished"]]
    wanted = sum(max(0, int(repeat["budget"] or 0) - int(repeat["labels"]["done"])) for repeat in going)
    test = [pick.key for pick in state.test or ()]
    size = len(test) or int((campaign.get("test") or {}).get("n") or 0)
    return wanted + size - sum(outcomes.get(key) == "label" for key in test)


def _throughput(attempts: Attempts, driver: Mapping[str, Any] | None) -> float | None:
    """Return the labels per hour over the last calculations, training between them included; None for no labels.

    They are those of the present driver once it has made any: the time while none ran tells nothing.
    """
    known = [one for one in attempts if one["outcome"] not in UNFINISHED][-RECENT:]
    begun = _begun(driver) if driver else math.inf
    own = [one for one in known if float(one["end"]) > begun]
    recent = own or known
    labels = sum(one["outcome"] == "label" for one in recent)
    if not labels:
        return None
    first = min(float(one["end"]) - float(one["seconds"]) for one in recent)
    last = max([float(one["end"]) for one in recent] + ([time.time()] if own else []))
    return float(3600 * labels / max(last - first, 1e-3))


def _begun(driver: Mapping[str, Any]) -> float:
    """Return when a driver began (s since 1970); infinity where it does not say."""
    try:
        return datetime.fromisoformat(str(driver.get("since"))).timestamp()
    except ValueError:
        return math.inf


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


def _distinct(aside: Sequence[SetAside]) -> list[SetAside]:
    return list({each.pick.key: each for each in aside}.values())


def _told(each: SetAside) -> dict[str, Any]:
    return {"key": each.pick.key, "system": each.pick.system, "kind": each.reason, "message": each.message}


def _reason(directory: RunDirectory) -> str | None:
    """Return why the last driver stopped, None where it was interrupted or killed."""
    try:
        return directory.stopped.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _jobs(campaign: Mapping[str, Any], directory: RunDirectory) -> list[dict[str, str]]:
    """Return the campaign's jobs of Slurm; none where it runs elsewhere or Slurm does not answer here."""
    section = campaign.get("execute") or {}
    if section.get("kind") != "slurm":
        return []
    from activeph.execute.slurm_executor import SlurmExecutor

    return [job._asdict() for job in SlurmExecutor.model_validate(section).jobs(directory.root / "jobs")]


def _updated(directory: RunDirectory) -> str | None:
    try:
        changed = directory.journal.stat().st_mtime
    except OSError:
        return None
    return datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")
