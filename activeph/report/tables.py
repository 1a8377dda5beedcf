"""The numbers of the report as rows of text: one place for the page, the command line and the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from activeph.records import Entry
from activeph.report.answer import METRIC_NAMES, saved_labels_range
from activeph.report.metrics import metrics_by_temperature, metrics_record
from activeph.report.results import Results, Round
from activeph.report.savings import ERRORS, labels_saved
from activeph.report.style import target_label, unit


@dataclass(frozen=True)
class Table:
    """A heading per column and rows of cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def savings_table(results: Results) -> Table:
    """Return labels saved against the baseline for every arm, target and error."""
    rows = []
    for arm in results.rounds:
        for target in results.target_names if arm != results.baseline else ():
            for metric in ERRORS:
                found = labels_saved(results, arm, results.baseline, target, metric)
                interval = "not known from 1 repeat" if found.verdict == "unknown" else saved_labels_range(found)
                verdict = {"gain": "gain", "loss": "loss"}.get(found.verdict, "no gain shown")
                errors = [f"{found.arm_error:.3g} {unit(target)}", f"{found.baseline_error:.3g} {unit(target)}"]
                what = f"{target_label(target)} {METRIC_NAMES[metric]}"
                rows.append((arm, what, *errors, str(round(found.saved)), interval, verdict))
    head = (
        "arm",
        "error of",
        "arm, at its end",
        f"{results.baseline}, at its end",
        "labels saved (negative: more needed)",
        "95 % interval",
        "",
    )
    return Table(head, tuple(rows))


def final_table(results: Results) -> Table:
    """Return the metrics of the last round of each arm, mean over repeats, for every target and temperature."""
    rows = []
    for target in results.target_names:
        for arm, repeats in results.rounds.items():
            records: dict[str, list[Mapping[str, float | None]]] = {}
            for rounds in repeats.values():
                args = (results.truth, rounds[-1].mean, rounds[-1].std, results.target_names)
                groups = {"all": metrics_record(*args), **metrics_by_temperature(*args, results.temperatures)}
                for temperature, record in groups.items():
                    records.setdefault(temperature, []).append(record[target])
            for temperature, found in records.items():
                cells = [_mean(found, name) for name in _FINAL]
                rows.append((f"{target_label(target)} ({unit(target)})", arm, temperature, *cells))
    head = ("target", "arm", "T (K)", *_FINAL.values())
    return Table(head, tuple(rows))


def spending_table(results: Results, entries: Sequence[Entry] = ()) -> Table:
    """Return what each arm asked for, what failed, and what others had paid for already."""
    owners = Counter(key for arm in results.rounds for key in _keys(results, arm))
    times = {entry.key: float(entry.label.provenance.get("wall_time") or 0.0) for entry in entries}
    rows = []
    for arm, repeats in results.rounds.items():
        asked = sum(rounds[-1].labels for rounds in repeats.values())
        failed = sum(rounds[-1].failures for rounds in repeats.values())
        keys = _keys(results, arm)
        shared = sum(owners[key] > 1 for key in keys)
        hours = sum(times.get(key, 0.0) for key in keys) / 3600
        cost = f"{hours:.3g}" if times else "not read"
        refused = f"{share:.1%}" if (share := _refused(repeats)) is not None else "-"
        rows.append((arm, str(len(repeats)), str(asked), str(failed), str(len(keys)), str(shared), refused, cost))
    if results.prepared:
        own = [pick.key for pick in results.preparation]
        hours = sum(times.get(key, 0.0) for key in own) / 3600
        cost = f"{hours:.3g}" if times else "not read"
        rows.append(("preparation, for all arms", "-", str(results.prepared), "-", str(len(own)), "-", "-", cost))
    head = (
        "arm",
        "repeats",
        "labels",
        "failed, replaced",
        "different calculations",
        "also asked by another arm",
        "draws refused by guards",
        "label time (h)",
    )
    return Table(head, tuple(rows))


def _refused(repeats: Mapping[int, Sequence[Round]]) -> float | None:
    """Return the mean share of an arm's draws that its guards refused, None where it has none."""
    known = [one.refused for rounds in repeats.values() for one in rounds if np.isfinite(one.refused)]
    return float(np.mean(known)) if known else None


def settings_table(campaign: Mapping[str, Any], prefix: str = "") -> Table:
    """Return the resolved campaign as dotted keys and values."""
    rows: list[tuple[str, ...]] = []
    for key, value in campaign.items():
        if isinstance(value, Mapping) and value:
            rows += settings_table(value, f"{prefix}{key}.").rows
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            rows += settings_table({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}.").rows
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return Table(("key", "value"), tuple(rows))


_FINAL = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "max_error": "largest error",
    "coverage_68": "inside 68 %",
    "coverage_95": "inside 95 %",
    "miscalibration_area": "miscal. area",
    "nll": "NLL",
    "spearman": "Spearman",
}


def _mean(records: Sequence[Mapping[str, float | None]], name: str) -> str:
    values = [value for record in records if (value := record[name]) is not None]
    if not values:
        return "-"
    mean = float(np.mean(values))
    return f"{100 * mean:.0f} %" if name.startswith("coverage") else f"{mean:.3g}"


def _keys(results: Results, arm: str) -> set[str]:
    repeats = results.rounds[arm].values()
    return {pick.key for rounds in repeats for one in rounds for pick in one.picked}
