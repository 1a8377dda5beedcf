"""The answer of a campaign in sentences: one per arm, gain or no gain, never more than the data show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from activeph.report.results import Results
from activeph.report.savings import Saving, labels_saved
from activeph.targets import TARGETS

METRIC_NAMES = {"mae": "MAE", "rmse": "RMSE", "r2": "R2"}


def headline_savings(results: Results) -> list[Saving]:
    """Return what each arm but the baseline saved, by the MAE of the first target."""
    arms = [arm for arm in results.rounds if arm != results.baseline]
    if results.baseline not in results.rounds:
        return []
    return [labels_saved(results, arm, results.baseline, results.target_names[0]) for arm in arms]


def attribution(results: Results) -> list[Saving]:
    """Return what each arm saved against the arm of the same sampler that selects at random, where there is one."""
    arms: Mapping[str, Mapping[str, Any]] = results.campaign.get("arms") or {}
    controls = [name for name in results.rounds if _selects_at_random(arms.get(name))]
    return [
        labels_saved(results, arm, control, results.target_names[0])
        for arm in results.rounds
        for control in controls
        if control not in (arm, results.baseline)
        and arm not in controls
        and arms[arm].get("sample") == arms[control].get("sample")
    ]


def answer(results: Results) -> str:
    """Return the answer, one line per comparison; the arms' final errors are in it."""
    savings = headline_savings(results)
    lines = [sentence(saving) for saving in savings]
    lines += [f"by selection alone, {sentence(saving)}" for saving in attribution(results)]
    if not lines:
        lines = [_errors_only(results)]
    if not results.finished:
        lines.append(f"the campaign is not finished: its budget is {results.budget} labels per repeat.")
    return "\n".join(lines)


def sentence(saving: Saving) -> str:
    """Return one comparison in words, with the final errors of both arms."""
    if saving.verdict != "gain":
        return f"{headline(saving)}."
    unit = TARGETS[saving.target].printed_unit
    end = f"{saving.arm} ends at {_error(saving.arm_error)} {unit} at {saving.arm_labels:.0f} labels"
    return f"{headline(saving)}; {end}."


def headline(saving: Saving) -> str:
    """Return one comparison in as few words as say it."""
    what = f"{saving.target.replace('_', ' ')} {METRIC_NAMES[saving.metric]}"
    unit = TARGETS[saving.target].printed_unit
    final = f"{_error(saving.baseline_error)} {unit} at {saving.baseline_labels:.0f} labels"
    ends = f"{saving.arm} ends at {_error(saving.arm_error)} {unit} {what} at {saving.arm_labels:.0f} labels"
    count = abs(round(saving.saved))
    bound = "at least " if saving.saved in (saving.least, saving.most) else ""
    if saving.verdict == "gain":
        reach = saving.baseline_labels - saving.saved
        return (
            f"{saving.arm} reaches the final {what} of {saving.baseline} ({final}) with {reach:.0f} labels: "
            f"{bound}{count} labels saved ({_interval(saving)})"
        )
    if saving.verdict == "loss":
        return (
            f"no gain shown: {ends}, worse than {saving.baseline} ({final}), which needs {bound}{count} labels less "
            f"for that ({_interval(saving)})"
        )
    estimate = f"{round(saving.saved):+d} labels saved" if round(saving.saved) else "0 labels saved"
    return f"no gain shown: {ends}, {saving.baseline} at {final}; {estimate} ({_interval(saving)})"


def saved_labels_range(saving: Saving) -> str:
    """Return the 95 % interval as text; ends at the edge of what was measured are open."""
    low = f"{round(saving.low)}" + (" or less" if saving.low <= saving.least else "")
    high = f"{round(saving.high)}" + (" or more" if saving.high >= saving.most else "")
    return f"{low} to {high}"


def _interval(saving: Saving) -> str:
    if saving.verdict == "unknown":
        return "1 repeat: no interval, chance cannot be told from gain"
    return f"95 % interval {saved_labels_range(saving)}, {saving.repeats} repeats"


def _error(value: float) -> str:
    return f"{value:.3g}"


def _errors_only(results: Results) -> str:
    """Where there is nothing to compare with: the final error of each arm."""
    from activeph.report.metrics import metrics_record

    name = results.target_names[0]
    finals: list[str] = []
    for arm, repeats in results.rounds.items():
        last = [rounds[-1] for rounds in repeats.values()]
        errors = [metrics_record(results.truth, one.mean, one.std, results.target_names)[name]["mae"] for one in last]
        mean = sum(error or 0.0 for error in errors) / len(errors)
        finals.append(f"{arm} {_error(mean)} {TARGETS[name].printed_unit} at {_joined([one.labels for one in last])}")
    return f"no gain shown: the baseline {results.baseline!r} has not run; {name.replace('_', ' ')} MAE: " + (
        "; ".join(finals) + "."
    )


def _joined(labels: Sequence[int]) -> str:
    low, high = min(labels), max(labels)
    return f"{low} labels" if low == high else f"{low} to {high} labels"


def _selects_at_random(arm: Mapping[str, Any] | None) -> bool:
    select = (arm or {}).get("select")
    return (select.get("kind") if isinstance(select, Mapping) else select) == "random"
