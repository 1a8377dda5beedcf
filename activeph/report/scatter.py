"""Parity of predictions, and whether large uncertainties go with large errors, at the end of the campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activeph.records import FloatArray
from activeph.report.metrics import target_metrics
from activeph.report.results import Results
from activeph.report.style import ArmStyle, arm_styles, target_label, unit
from activeph.targets import TARGETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def parity(results: Results) -> Figure:
    """Return predicted against labelled values: one row per target, one column per arm, last round of each repeat."""
    figure, panels = _grid(results)
    styles = arm_styles(list(results.rounds), results.baseline)
    for row, target in zip(panels, results.target_names, strict=True):
        origin = _origin(results, target)
        limits = _parity_limits(results, target)
        for axes, arm in zip(row, results.rounds, strict=True):
            _parity_panel(axes, results, arm, target, styles[arm], limits)
            name = f"labelled {target_label(target)}" + (f" {-origin:+g}" if origin else "")
            _names(axes, arm, styles[arm], f"{name} ({unit(target)})", f"predicted ({unit(target)})")
    figure.suptitle("Predicted against labelled values of the test set, last round of each repeat", fontsize=12)
    return figure


def uncertainty_error(results: Results) -> Figure:
    """Return absolute error against predicted standard deviation, laid out like :func:`parity`."""
    figure, panels = _grid(results)
    styles = arm_styles(list(results.rounds), results.baseline)
    for row, target in zip(panels, results.target_names, strict=True):
        for axes, arm in zip(row, results.rounds, strict=True):
            axes.sharex(row[0])
            axes.sharey(row[0])
            _uncertainty_panel(axes, results, arm, target, styles[arm])
        _common_frame(row, results, target)
    figure.suptitle(
        "Absolute error against predicted standard deviation, last round of each repeat\n"
        "(a calibrated model has 68 % of the points under the solid line and 95 % under the dashed one)",
        fontsize=11,
    )
    return figure


def final_predictions(results: Results, arm: str, target: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return truth, mean and standard deviation [repeats, S] of the last round of each repeat, in the printed unit."""
    column, factor = results.target_names.index(target), TARGETS[target].printed_factor
    last = [rounds[-1] for rounds in results.rounds[arm].values()]
    mean = np.stack([one.mean[:, column] for one in last]) * factor
    std = np.stack([one.std[:, column] for one in last]) * factor
    return np.broadcast_to(results.truth[:, column] * factor, mean.shape), mean, std


def _grid(results: Results) -> tuple[Figure, np.ndarray]:
    from matplotlib.figure import Figure

    rows, columns = len(results.target_names), len(results.rounds)
    figure = Figure(figsize=(1.0 + 3.4 * columns, 0.8 + 3.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _all_truth(results: Results, target: str) -> FloatArray:
    return results.truth[:, results.target_names.index(target)] * TARGETS[target].printed_factor


def _origin(results: Results, target: str) -> float:
    """Return a round number to subtract where values lie far from zero (total energies), else 0."""
    truth = _all_truth(results, target)
    spread = float(np.ptp(truth)) or 1.0
    step = 10.0 ** np.floor(np.log10(spread))
    return float(np.round(truth.mean() / step) * step) if abs(truth.mean()) > 100 * spread else 0.0


def _parity_limits(results: Results, target: str) -> tuple[float, float]:
    """Return the frame, from the origin: all labels and predictions, but one span of the labels beyond them at most."""
    origin = _origin(results, target)
    truth = _all_truth(results, target) - origin
    predicted = np.concatenate([final_predictions(results, arm, target)[1].ravel() for arm in results.rounds]) - origin
    low, high = float(truth.min()), float(truth.max())
    span = high - low or 1.0
    bottom = min(low, max(float(predicted.min()), low - span))
    top = max(high, min(float(predicted.max()), high + span))
    margin = 0.04 * (top - bottom or 1.0)
    return bottom - margin, top + margin


def _parity_panel(
    axes: Axes, results: Results, arm: str, target: str, style: ArmStyle, limits: tuple[float, float]
) -> None:
    from matplotlib.ticker import MaxNLocator

    truth, mean, std = final_predictions(results, arm, target)
    truth, mean = truth - _origin(results, target), mean - _origin(results, target)
    beyond = (mean < limits[0]) | (mean > limits[1])
    x, y, spread = (values[~beyond] for values in (truth, mean, std))
    axes.errorbar(x, y, spread, fmt="none", ecolor=style.colour, alpha=0.18, linewidth=0.8)
    axes.plot(x, y, ".", color=style.colour, markersize=4, alpha=0.7)
    for marker, edge, out in (("v", limits[0], mean < limits[0]), ("^", limits[1], mean > limits[1])):
        if out.any():
            axes.plot(truth[out], np.full(out.sum(), edge), marker, color=style.colour, markersize=6, clip_on=False)
    axes.plot(limits, limits, color="black", linewidth=0.9)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    metrics = target_metrics(truth.ravel(), mean.ravel(), std.ravel())
    text = [f"MAE {metrics['mae']:.3g} {unit(target)}"]
    text += [] if metrics["r2"] is None else [f"R2 {metrics['r2']:.3f}"]
    text += [f"{beyond.sum()} beyond the frame"] if beyond.any() else []
    _caption(axes, ", ".join(text))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def _uncertainty_panel(axes: Axes, results: Results, arm: str, target: str, style: ArmStyle) -> None:
    truth, mean, std = final_predictions(results, arm, target)
    error = np.abs(mean - truth).ravel()
    metrics = target_metrics(truth.ravel(), mean.ravel(), std.ravel())
    axes.plot(std.ravel(), error, ".", color=style.colour, markersize=4, alpha=0.6)
    _caption(axes, _calibration_text(metrics))
    _names(axes, arm, style, f"predicted std of {target_label(target)} ({unit(target)})", f"error ({unit(target)})")


def _common_frame(row: np.ndarray, results: Results, target: str) -> None:
    """Give the panels of one target the same axes, and draw where one and 1.96 standard deviations lie."""
    finals = [final_predictions(results, arm, target) for arm in results.rounds]
    right = 1.05 * max(float(std.max()) for _, _, std in finals) or 1.0
    top = 1.05 * max(float(np.abs(mean - truth).max()) for truth, mean, _ in finals) or 1.0
    for axes in row:
        axes.plot([0, right], [0, right], color="black", linewidth=0.9)
        axes.plot([0, right], [0, 1.96 * right], color="black", linewidth=0.9, linestyle="--")
        axes.set(xlim=(0, right), ylim=(0, top))


def _calibration_text(metrics: dict[str, float | None]) -> str:
    inside, twice, area, rank = (metrics[n] for n in ("coverage_68", "coverage_95", "miscalibration_area", "spearman"))
    if inside is None or twice is None or area is None:
        return "no spread predicted"
    shares = f"inside 68 %: {100 * inside:.0f} %, inside 95 %: {100 * twice:.0f} %"
    return f"{shares}\nmiscalibration area {area:.3f}" + ("" if rank is None else f", Spearman {rank:.2f}")


def _caption(axes: Axes, text: str) -> None:
    """Write numbers above the frame, where they cover no point, under the arm's name."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
    axes.annotate(text, (0.5, 1), ha="center", va="bottom", fontsize=8.5, **place)


def _names(axes: Axes, arm: str, style: ArmStyle, x: str, y: str) -> None:
    lines = max(note.get_text().count("\n") + 1 for note in axes.texts)
    axes.set_title(arm, fontsize=10, color=style.colour, weight="bold", pad=5 + 13 * lines)
    axes.set_xlabel(x, fontsize=8.5)
    axes.set_ylabel(y, fontsize=8.5)
    axes.tick_params(labelsize=8)
