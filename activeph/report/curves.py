"""The learning-curve picture: error against labels, one line per arm, and the answer drawn into it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from activeph.records import FloatArray
from activeph.report.answer import METRIC_NAMES, headline, headline_savings, saved_labels_range
from activeph.report.metrics import metrics_record
from activeph.report.results import Results
from activeph.report.savings import Saving, common_grid
from activeph.report.style import ArmStyle, arm_styles, target_label, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curve(results: Results) -> Figure:
    """Return the picture: the first target's MAE large, under it MAE, RMSE and R2 of every target.

    Lines are means over repeats; bands reach from the smallest to the largest repeat.
    """
    from matplotlib.figure import Figure

    savings = headline_savings(results)
    n_targets = len(results.target_names)
    figure = Figure(figsize=(11, 5.6 + 2.5 * n_targets), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[5.6, 2.5 * n_targets], hspace=0.02)
    top, below = parts
    styles = arm_styles(list(results.rounds), results.baseline)
    _headline(top.subplots(), results, savings, styles)
    top.suptitle(_title(results, savings), fontsize=11.5, x=0.01, ha="left", weight="bold")
    panels = np.atleast_2d(below.subplots(n_targets, len(METRIC_NAMES), sharex=True))
    for row, target in zip(panels, results.target_names, strict=True):
        for axes, metric in zip(row, METRIC_NAMES, strict=True):
            _draw_arms(axes, results, target, metric, styles)
            axes.set_title(f"{target_label(target)}: {_axis_name(target, metric)}", fontsize=9.5, loc="left")
            axes.tick_params(labelsize=8.5)
    for axes in panels[-1]:
        axes.set_xlabel("labels spent", fontsize=9)
    return figure


def metric_curves(results: Results, arm: str, target: str, metric: str) -> tuple[FloatArray, FloatArray]:
    """Return label counts [points] and values [repeats, points] on the counts that all repeats have reached."""
    repeats = list(results.rounds[arm].values())
    grid = common_grid([[one.labels for one in rounds] for rounds in repeats])
    column = [results.target_names.index(target)]
    values = []
    for rounds in repeats:
        records = (
            metrics_record(results.truth[:, column], r.mean[:, column], r.std[:, column], [target]) for r in rounds
        )
        found = [np.nan if record[target][metric] is None else record[target][metric] for record in records]
        values.append(np.interp(grid, [one.labels for one in rounds], np.array(found, dtype=np.float64)))
    return grid, np.array(values)


def _title(results: Results, savings: list[Saving]) -> str:
    lines = [line for saving in savings for line in textwrap.wrap(headline(saving), 106)]
    if not results.finished:
        lines.append(f"(campaign not finished: {results.budget} labels per repeat are its budget)")
    return "\n".join(lines) or results.name


def _axis_name(target: str, metric: str) -> str:
    return METRIC_NAMES[metric] + ("" if metric == "r2" else f" ({unit(target)})")


def _headline(axes: Axes, results: Results, savings: list[Saving], styles: dict[str, ArmStyle]) -> None:
    target = results.target_names[0]
    ends = _draw_arms(axes, results, target, "mae", styles)
    axes.set_ylabel(f"{target_label(target)} {_axis_name(target, 'mae')} on the test set")
    axes.set_xlabel("labels spent per repeat (failed calculations count)")
    axes.set_ylim(bottom=0)
    axes.axvline(results.initial, color="#999999", linewidth=1, linestyle=":")
    axes.annotate(
        f"initial set\n{results.initial} labels",
        (results.initial, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8.5,
        color="#666666",
    )
    _label_lines(axes, ends, styles)
    shown = [saving for saving in savings if saving.verdict == "gain"]
    if shown:
        _saving_arrow(axes, max(shown, key=lambda saving: saving.saved), styles)
    repeats = {arm: len(found) for arm, found in results.rounds.items()}
    counts = sorted(set(repeats.values()))
    axes.set_title(
        f"{results.name}: {len(results.truth)} test structures; line = mean, band = smallest to largest of "
        f"{' to '.join(map(str, counts))} repeats",
        fontsize=9.5,
        loc="left",
        color="#444444",
    )


def _draw_arms(
    axes: Axes, results: Results, target: str, metric: str, styles: dict[str, ArmStyle]
) -> dict[str, tuple[float, float]]:
    """Draw all arms, the baseline last and on top; return where each line ends."""
    ends = {}
    for arm in sorted(results.rounds, key=lambda name: name == results.baseline):
        labels, values = metric_curves(results, arm, target, metric)
        style, mean = styles[arm], values.mean(axis=0)
        if len(values) > 1:
            axes.fill_between(
                labels, values.min(axis=0), values.max(axis=0), color=style.colour, alpha=0.16, linewidth=0
            )
        axes.plot(labels, mean, color=style.colour, marker=style.marker, linestyle=style.line, markersize=4.5)
        ends[arm] = (float(labels[-1]), float(mean[-1]))
    if metric == "r2":
        _limit_r2(axes, [y for _, y in ends.values()])
    return ends


def _limit_r2(axes: Axes, finals: list[float]) -> None:
    """A first round may have an R2 far below zero; the scale is kept for where the lines end."""
    lowest = min([-0.1, *(value - 0.15 for value in finals if np.isfinite(value))])
    axes.set_ylim(max(axes.get_ylim()[0], lowest), min(axes.get_ylim()[1], 1.02))


def _label_lines(axes: Axes, ends: dict[str, tuple[float, float]], styles: dict[str, ArmStyle]) -> None:
    """Write each arm's name and final error right of its line, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.052 * (high - low)
    heights: list[float] = []
    right = max(x for x, _ in ends.values())
    for arm, (_, y) in sorted(ends.items(), key=lambda item: item[1][1]):
        height = max([y, *(placed + gap for placed in heights[-1:])])
        heights.append(height)
        axes.annotate(
            f"{arm}  {y:.3g}",
            (right, height),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=styles[arm].colour,
            weight="bold",
            annotation_clip=False,
        )


def _saving_arrow(axes: Axes, saving: Saving, styles: dict[str, ArmStyle]) -> None:
    """Draw the labels saved as a double arrow at the baseline's final error."""
    start, stop, level = saving.baseline_labels - saving.saved, saving.baseline_labels, saving.baseline_error
    arrow: dict[str, Any] = {
        "arrowstyle": "<->",
        "color": styles[saving.arm].colour,
        "linewidth": 1.6,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", (start, level), (stop, level), arrowprops=arrow)
    bound = "at least " if saving.saved >= saving.most else ""
    axes.annotate(
        f"{bound}{saving.saved:.0f} labels saved (95 %: {saved_labels_range(saving)})",
        ((start + stop) / 2, level),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        color=styles[saving.arm].colour,
        fontsize=9.5,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0},
    )
