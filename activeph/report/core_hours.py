"""The learning curves once more, over what the labels cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activeph.records import FloatArray
from activeph.report.answer import beside
from activeph.report.curves import (
    axis_name,
    besides,
    draw_arms,
    legend_of_arms,
    metric_curves,
    metric_values,
    whole_numbers,
)
from activeph.report.results import Results
from activeph.report.savings import common_grid
from activeph.report.style import arm_styles, target_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC = "mae"
IN_SHORT = "a repeat pays for all that it asked for: a label that others use too counts for each of them"


def core_hours_curve(results: Results) -> Figure:
    """Return the picture: for each target the error over labels, and beside it over core-hours.

    Lines are means over repeats; bands reach from the smallest to the largest repeat. Of results with known costs.
    """
    from matplotlib.figure import Figure

    n_targets = len(results.target_names)
    figure = Figure(figsize=(11, 0.8 + 3.0 * n_targets), layout="constrained")
    styles = arm_styles(list(results.rounds), results.baseline)
    panels = np.atleast_2d(figure.subplots(n_targets, 2, sharey="row", sharex="col"))
    for row, target in zip(panels, results.target_names, strict=True):
        for axes, curves in zip(row, (metric_curves, cost_curves), strict=True):
            draw_arms(axes, results, target, METRIC, styles, curves)
            axes.set_ylim(bottom=0)
        row[0].set_ylabel(axis_name(target, METRIC))
        row[0].set_title(target_label(target), fontsize=10, loc="left")
    panels[-1][0].set_xlabel(f"labels per repeat{besides(results)}")
    whole_numbers(panels[-1][0])
    panels[-1][1].set_xlabel(f"core-hours per repeat{besides(results)}")
    place = {"x": 0.01, "ha": "left", "fontsize": 8.5, "color": "#444444"}
    figure.supxlabel("line = mean, band = smallest to largest of the repeats; " + IN_SHORT, **place)
    legend_of_arms(figure, panels[0][0], list(results.rounds), styles)
    return figure


def cost_curves(results: Results, arm: str, target: str, metric: str) -> tuple[FloatArray, FloatArray]:
    """Return core-hours [points] and values [repeats, points] where all repeats have been."""
    repeats = results.rounds[arm]
    spent = [results.core_hours(arm, repeat) for repeat in repeats]
    grid = common_grid(spent)
    values = [metric_values(results, rounds, target, metric) for rounds in repeats.values()]
    return grid, np.array([np.interp(grid, hours, one) for hours, one in zip(spent, values, strict=True)])


def caption(results: Results) -> str:
    """Return what is counted, and what is not."""
    keys = {key for repeats in results.rounds.values() for rounds in repeats.values() for r in rounds for key in r.keys}
    unknown = len(keys - results.costs.keys())
    text = (
        "Core-hours of a repeat are those of all calculations that it asked for (time times cores, failed and repeated "
        "attempts included). A label that several arms or repeats use is counted for each of them, though it was "
        "calculated once: this is what each would have cost alone. Test set, force constants, training and scoring are "
        "left out. A line ends where the cheapest of its repeats does."
    )
    if results.prepared:
        text = f"{text} Left out too: {beside(results)}, which every arm trains on and which were paid for once."
    if not unknown:
        return text
    return f"{text} The time of {unknown} of {len(keys)} labels is not known; they count as the mean of the others."
