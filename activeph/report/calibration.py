"""Do truths fall inside predicted intervals as often as the intervals say?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activeph.records import FloatArray
from activeph.report.metrics import miscalibration_area
from activeph.report.results import Results
from activeph.report.scatter import final_predictions
from activeph.report.style import arm_styles, target_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = np.linspace(0.0, 1.0, 101)


def calibration(results: Results) -> Figure:
    """Return observed against expected share of truths inside central intervals, one panel per target, last round."""
    from matplotlib.figure import Figure

    n = len(results.target_names)
    columns = min(n, 4)
    rows = -(-n // columns)
    figure = Figure(figsize=(0.6 + 2.9 * columns, 0.5 + 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    styles = arm_styles(list(results.rounds), results.baseline)
    for axes, target in zip(panels.flat, results.target_names, strict=False):
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.9)
        for arm in results.rounds:
            truth, mean, std = final_predictions(results, arm, target)
            if np.all(std > 0):
                error, spread = (mean - truth).ravel(), std.ravel()
                name = f"{arm} (area {miscalibration_area(error, spread):.3f})"
                style = styles[arm]
                axes.plot(LEVELS, observed_shares(error, spread), style.line, color=style.colour, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="expected share inside", ylabel="observed share")
        axes.set_title(target_label(target), fontsize=10, loc="left")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7.5, loc="upper left", handlelength=1.2, borderaxespad=0.2)
    for axes in list(panels.flat)[n:]:
        axes.remove()
    return figure


def observed_shares(error: FloatArray, std: FloatArray) -> FloatArray:
    """Return the share of truths inside the central interval of each of :data:`LEVELS`."""
    from scipy.special import erf

    entered = np.sort(erf(np.abs(error) / std / np.sqrt(2.0)))
    return np.searchsorted(entered, LEVELS, side="right") / len(entered)
