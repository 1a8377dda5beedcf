"""All pictures of a campaign and the numbers behind them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from activeph.report.metrics import METRICS, metrics_by_temperature, metrics_record
from activeph.report.results import Results, load_results
from activeph.report.style import SETTINGS, save, unit
from activeph.rundir import RunDirectory, write_bytes


def write_figures(run_dir: Path) -> list[Path]:
    """Write ``report/``: learning-curve (.png, .svg), parity and uncertainty-error (.png), and metrics.csv.

    Works on an unfinished campaign. Raises InputError where nothing has been evaluated yet. Equal results give equal
    files, byte for byte, with one version of matplotlib.
    """
    import matplotlib as mpl
    from matplotlib.style import context

    from activeph.report.curves import learning_curve
    from activeph.report.scatter import parity, uncertainty_error

    results = load_results(run_dir)
    folder = RunDirectory(run_dir).report
    with context("default"), mpl.rc_context(SETTINGS):
        written = [
            *save(learning_curve(results), folder / "learning-curve", vector=True),
            *save(parity(results), folder / "parity", vector=False),
            *save(uncertainty_error(results), folder / "uncertainty-error", vector=False),
        ]
    table = folder / "metrics.csv"
    write_bytes(table, metrics_table(results).encode())
    return [*written, table]


def metrics_table(results: Results) -> str:
    """Return metrics of every arm, repeat, round, target and temperature as CSV, errors in the printed unit."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["arm", "repeat", "round", "labels", "failures", "target", "unit", "temperature_K", *METRICS])
    for arm, repeats in results.rounds.items():
        for repeat, rounds in repeats.items():
            for one in rounds:
                start = [arm, repeat, one.number, one.labels, one.failures]
                args = (results.truth, one.mean, one.std, results.target_names)
                groups = {"all": metrics_record(*args), **metrics_by_temperature(*args, results.temperatures)}
                for temperature, record in groups.items():
                    for target, values in record.items():
                        row = ["" if values[name] is None else repr(values[name]) for name in METRICS]
                        writer.writerow([*start, target, unit(target), temperature, *row])
    return stream.getvalue()
