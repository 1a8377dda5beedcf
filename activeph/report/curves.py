"""The learning-curve picture: error against labels, one line per arm, and the answer drawn into it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from activeph.records import FloatArray
from activeph.report.answer import METRIC_NAMES, beside, counted, headline, headline_savings, saved_labels_range
from activeph.report.metrics import metrics_record
from activeph.report.results import Results, Round
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
    title = _title(results, savings)
    heights = [5.8 + 0.2 * len(title.splitlines()), 0.5 + 1.9 * n_targets]
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights, hspace=0.02)
    top, below = parts
    styles = arm_styles(list(results.rounds), results.baseline)
    _headline(top.subplots(), results, savings, styles)
    top.suptitle(title, fontsize=11.5, x=0.01, ha="left", weight="bold")
    panels = np.atleast_2d(below.subplots(n_targets, len(METRIC_NAMES), sharex=True))
    for row, target in zip(panels, results.target_names, strict=True):
        for axes, metric in zip(row, METRIC_NAMES, strict=True):
            draw_arms(axes, results, target, metric, styles)
            axes.set_title(f"{target_label(target)}: {axis_name(target, metric)}", fontsize=9, loc="left")
            axes.tick_params(labelsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("labels" + besides(results), fontsize=9)
        whole_numbers(axes)
    legend_of_arms(below, panels[0, 0], list(results.rounds), styles, title="All targets, all metrics")
    return figure


def metric_curves(results: Results, arm: str, target: str, metric: str) -> tuple[FloatArray, FloatArray]:
    """Return label counts [points] and values [repeats, points] on the counts that all repeats have reached."""
    repeats = list(results.rounds[arm].values())
    grid = common_grid([[one.labels for one in rounds] for rounds in repeats])
    values = [
        np.interp(grid, [one.labels for one in rounds], metric_values(results, rounds, target, metric))
        for rounds in repeats
    ]
    return grid, np.array(values)


def metric_values(results: Results, rounds: Sequence[Round], target: str, metric: str) -> FloatArray:
    """Return a metric after each round of one repeat [rounds], NaN where it is not defined."""
    column = [results.target_names.index(target)]
    records = (metrics_record(results.truth[:, column], r.mean[:, column], r.std[:, column], [target]) for r in rounds)
    found = [np.nan if record[target][metric] is None else record[target][metric] for record in records]
    return np.array(found, dtype=np.float64)


def _title(results: Results, savings: list[Saving]) -> str:
    lines = [line for saving in savings for line in textwrap.wrap(headline(saving), 106)]
    if not results.finished:
        lines.append(f"(campaign not finished: its budget is {counted(results.budget, 'label')} per repeat)")
    return "\n".join(lines) or results.name


def whole_numbers(axes: Axes) -> None:
    """Mark the horizontal axis at whole numbers alone: there are no half labels."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def besides(results: Results) -> str:
    """Return what an axis of labels must say where every arm has trained on labels that it does not count."""
    return f" beside {beside(results)}" if results.prepared else ""


def axis_name(target: str, metric: str) -> str:
    """Return a metric with the unit of a target."""
    return METRIC_NAMES[metric] + ("" if metric == "r2" else f" ({unit(target)})")


def _headline(axes: Axes, results: Results, savings: list[Saving], styles: dict[str, ArmStyle]) -> None:
    target = results.target_names[0]
    ends = draw_arms(axes, results, target, "mae", styles)
    axes.set_ylabel(f"{target_label(target)} {axis_name(target, 'mae')} on the test set")
    axes.set_xlabel(f"labels per repeat{besides(results)} (failed calculations are replaced)")
    whole_numbers(axes)
    shown = [saving for saving in savings if saving.verdict == "gain"]
    _free_strip(axes, 0.16 if shown else 0.06)
    axes.axvline(results.initial, color="#999999", linewidth=1, linestyle=":")
    axes.annotate(
        f"initial set: {counted(results.initial, 'label')}",
        (results.initial, 0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=8.5,
        color="#666666",
    )
    _label_lines(axes, ends, styles)
    if shown:
        _saving_arrow(axes, max(shown, key=lambda saving: saving.saved), styles)
    axes.set_title(_caption(results), fontsize=9.5, loc="left", color="#444444")


def _caption(results: Results) -> str:
    tested = f"{results.name}: {counted(len(results.truth), 'test structure')}"
    repeats = [len(found) for found in results.rounds.values()]
    if max(repeats) == 1:
        return f"{tested}; 1 repeat, no spread known"
    upto = "" if len(set(repeats)) == 1 else "up to "
    return f"{tested}; line = mean, band = smallest to largest of {upto}{max(repeats)} repeats"


def _free_strip(axes: Axes, share: float) -> None:
    """Start the error axis at 0 and keep a strip free of lines under it, for notes."""
    top = axes.get_ylim()[1]
    axes.set_ylim(-top * share / (1 - share), top)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    axes.axhline(0, color="black", linewidth=0.8)


def legend_of_arms(
    part: Any, axes: Axes, arms: Sequence[str], styles: dict[str, ArmStyle], title: str | None = None
) -> None:
    """Write one legend above all panels of a figure or a part of one, in as many columns as fit."""
    for arm in arms:
        axes.plot([], [], **_line(styles[arm]), label=arm)
    handles, names = axes.get_legend_handles_labels()
    columns = max(1, 120 // (max(map(len, names)) + 8))
    place = {"loc": "outside upper left", "ncols": columns, "alignment": "left"}
    part.legend(handles, names, fontsize=9, title=title, **place)


def _line(style: ArmStyle) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "linestyle": style.line, "markersize": 4.5}


def draw_arms(
    axes: Axes,
    results: Results,
    target: str,
    metric: str,
    styles: dict[str, ArmStyle],
    curves: Callable[[Results, str, str, str], tuple[FloatArray, FloatArray]] = metric_curves,
) -> dict[str, tuple[float, float]]:
    """Draw all arms, the baseline last and on top; return where each line ends."""
    ends = {}
    for arm in sorted(results.rounds, key=lambda name: name == results.baseline):
        labels, values = curves(results, arm, target, metric)
        style, mean = styles[arm], values.mean(axis=0)
        if len(values) > 1:
            axes.fill_between(
                labels, values.min(axis=0), values.max(axis=0), color=style.colour, alpha=0.16, linewidth=0
            )
        axes.plot(labels, mean, **_line(style))
        ends[arm] = (float(labels[-1]), float(mean[-1]))
    if metric == "r2":
        _limit_r2(axes, [y for _, y in ends.values()])
    return ends


def _limit_r2(axes: Axes, finals: list[float]) -> None:
    """Cut what lies far below 0 in early rounds, but never where a line ends; arrows on the edge mark what was cut."""
    cut = min([-1.0, *(value - 0.1 for value in finals if np.isfinite(value))])
    low, high = axes.get_ylim()
    bottom = max(low, cut)
    axes.set_ylim(bottom, min(high, 1 + 0.07 * (1 - bottom)))
    lowest = np.inf
    for line in axes.get_lines():
        x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data())
        out = y < cut
        if out.any():
            axes.plot(x[out], np.full(out.sum(), cut), "v", color=line.get_color(), markersize=7, clip_on=False)
            lowest = min(lowest, float(y[out].min()))
    if np.isfinite(lowest):
        note = f"cut at {cut:.3g}, smallest {lowest:.3g}"  # inside: beside a long title there is no room
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        axes.text(0.5, 0.05, note, transform=axes.transAxes, ha="center", fontsize=8, color="#444444", bbox=behind)


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
    """Draw the labels saved as a double arrow in the strip under the lines, led up to the error compared at."""
    level, start, stop = saving.reading
    height, colour = 0.5 * axes.get_ylim()[0], styles[saving.arm].colour
    axes.plot([start, start, stop, stop], [height, level, level, height], ":", color=colour, linewidth=1.2)
    arrow: dict[str, Any] = {"arrowstyle": "<->", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (start, height), (stop, height), arrowprops=arrow)
    bound = "at least " if saving.saved >= saving.most else ""
    axes.annotate(
        f"{bound}{counted(saving.saved, 'label')} saved (95 %: {saved_labels_range(saving)})",
        ((start + stop) / 2, height),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        color=colour,
        fontsize=9.5,
    )
