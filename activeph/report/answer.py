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
    if results.prepared:
        lines.append(f"every arm also trains on {beside(results)}, which are not counted here.")
    if not results.finished:
        lines.append(f"the campaign is not finished: its budget is {counted(results.budget, 'label')} per repeat.")
    return "\n".join(lines)


def sentence(saving: Saving) -> str:
    """Return one comparison in words, with the final errors of both arms."""
    if saving.verdict != "gain":
        return f"{headline(saving)}."
    unit = TARGETS[saving.target].printed_unit
    if saving.arm_error <= saving.baseline_error:
        other, error, labels = saving.arm, saving.arm_error, saving.arm_labels
    else:
        other, error, labels = saving.baseline, saving.baseline_error, saving.baseline_labels
    return f"{headline(saving)}; {other} ends at {_error(error)} {unit} at {counted(labels, 'label')}."


def headline(saving: Saving) -> str:
    """Return one comparison in as few words as say it."""
    what = f"{saving.target.replace('_', ' ')} {METRIC_NAMES[saving.metric]}"
    unit = TARGETS[saving.target].printed_unit
    final = f"{_error(saving.baseline_error)} {unit} at {counted(saving.baseline_labels, 'label')}"
    own = f"{_error(saving.arm_error)} {unit}", f"at {counted(saving.arm_labels, 'label')}"
    is_ahead = saving.arm_error <= saving.baseline_error
    if saving.verdict == "gain":
        _, arm_labels, baseline_labels = saving.reading
        if is_ahead:
            reaches = f"{saving.arm} reaches the final {what} of {saving.baseline} ({final})"
        else:
            reaches = f"{saving.baseline} reaches the final {what} of {saving.arm} ({' '.join(own)})"
        reach = counted(arm_labels if is_ahead else baseline_labels, "label")
        return f"{reaches} with {reach}: {_saved_in_words(saving)} ({_interval(saving)})"
    ends = f"{saving.arm} ends at {own[0]} {what} {own[1]}"
    if saving.verdict == "unknown":
        only = "in the only repeat, which cannot tell chance from gain"
        return f"no gain shown: {ends}, {saving.baseline} at {final}; {_saved_in_words(saving)} {only}"
    worse = "worse than " if saving.verdict == "loss" and not is_ahead else ""
    change = f"{_saved_in_words(saving)} ({_interval(saving)})"
    return f"no gain shown: {ends}, {worse}{saving.baseline} at {final}; {change}"


def counted(number: float, noun: str) -> str:
    """Return a whole number of things, with the plural where it belongs."""
    return f"{round(number)} {noun}" + ("" if round(number) == 1 else "s")


def beside(results: Results) -> str:
    """Return how many labels of the preparation every arm trains on beside those of its budget."""
    return f"{counted(results.prepared, 'label')} of the preparation"


def saved_labels_range(saving: Saving) -> str:
    """Return the 95 % interval as signed numbers; ends at the edge of what was measured are open."""
    low = f"{round(saving.low)}" + (" or less" if saving.low <= saving.least else "")
    high = f"{round(saving.high)}" + (" or more" if saving.high >= saving.most else "")
    return f"{low} to {high}"


def _saved_in_words(saving: Saving) -> str:
    """Return the estimate without a sign: labels saved, or labels needed on top."""
    count = counted(abs(saving.saved), "label")
    if round(saving.saved) == 0:
        return f"{count} saved"
    bound = "at least " if saving.saved in (saving.least, saving.most) else ""
    return f"{bound}{count} saved" if saving.saved > 0 else f"{saving.arm} needs {bound}{count} more"


def _interval(saving: Saving) -> str:
    low, high = (round(end) for end in (saving.low, saving.high))
    lowest = f"{abs(low)}" + (_beyond(low < 0) if saving.low <= saving.least else "")
    highest = f"{abs(high)}" + (_beyond(high >= 0) if saving.high >= saving.most else "")
    if low >= 0:
        ends = f"{lowest} to {highest} saved"
    elif high <= 0:
        ends = f"{highest} to {lowest} lost"
    else:
        ends = f"{lowest} lost to {highest} saved"
    return f"95 % interval {ends}, {counted(saving.repeats, 'repeat')}"


def _beyond(away_from_zero: bool) -> str:
    return " or more" if away_from_zero else " or less"


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
    only = "no arm beside " if results.baseline in results.rounds else ""
    ran = "has run" if only else "has not run"
    return f"no gain shown: {only}the baseline {results.baseline!r} {ran}; {name.replace('_', ' ')} MAE: " + (
        "; ".join(finals) + "."
    )


def _joined(labels: Sequence[int]) -> str:
    low, high = min(labels), max(labels)
    return counted(low, "label") if low == high else f"{low} to {high} labels"


def _selects_at_random(arm: Mapping[str, Any] | None) -> bool:
    select = (arm or {}).get("select")
    return (select.get("kind") if isinstance(select, Mapping) else select) == "random"
