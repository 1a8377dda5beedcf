"""All pictures of a campaign and the numbers behind them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from activeph.report.metrics import METRICS, metrics_by_system, metrics_by_temperature, metrics_record
from activeph.report.results import Results, Round, load_results
from activeph.report.style import SETTINGS, save, unit
from activeph.rundir import RunDirectory, write_bytes


def write_figures(run_dir: Path, costs: Mapping[str, float] | None = None) -> list[Path]:
    """Write ``report/``: learning-curve (.png, .svg), parity and uncertainty-error (.png), and metrics.csv.

    With ``costs`` (core-hours by ledger key) also core-hours (.png, .svg). Works on an unfinished campaign. Raises
    InputError where nothing has been evaluated yet. Equal results give equal files, byte for byte, with one version of
    matplotlib.
    """
    import matplotlib as mpl
    from matplotlib.style import context

    from activeph.report.core_hours import core_hours_curve
    from activeph.report.curves import learning_curve
    from activeph.report.scatter import parity, uncertainty_error

    results = load_results(run_dir, costs)
    folder = RunDirectory(run_dir).report
    with context("default"), mpl.rc_context(SETTINGS):
        written = [
            *save(learning_curve(results), folder / "learning-curve", vector=True),
            *save(parity(results), folder / "parity", vector=False),
            *save(uncertainty_error(results), folder / "uncertainty-error", vector=False),
        ]
        if results.costs:
            written += save(core_hours_curve(results), folder / "core-hours", vector=True)
    table = folder / "metrics.csv"
    write_bytes(table, metrics_table(results).encode())
    return [*written, table]


def metrics_table(results: Results) -> str:
    """Return metrics of every arm, repeat, round and target as CSV, errors in the printed unit.

    Each has one row over all test structures, one per temperature and, with several systems, one per system.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "arm",
            "repeat",
            "round",
            "labels",
            "failures",
            "target",
            "unit",
            "temperature_K",
            "system",
            *METRICS,
            "core_hours",
            "prepared_labels",
        ]
    )
    for arm, repeats in results.rounds.items():
        for repeat, rounds in repeats.items():
            for one, hours in zip(rounds, results.core_hours(arm, repeat), strict=True):
                cost = f"{hours:.6g}" if results.costs else ""
                start = [arm, repeat, one.number, one.labels, one.failures]
                for temperature, system, record in _records(results, one):
                    for target, values in record.items():
                        row = ["" if values[name] is None else repr(values[name]) for name in METRICS]
                        writer.writerow([*start, target, unit(target), temperature, system, *row, cost, one.prepared])
    return stream.getvalue()


def _records(results: Results, one: Round) -> Iterator[tuple[str, str, dict[str, dict[str, float | None]]]]:
    args = (results.truth, one.mean, one.std, results.target_names)
    yield "all", "all", metrics_record(*args)
    for temperature, record in metrics_by_temperature(*args, results.temperatures).items():
        yield temperature, "all", record
    if len(set(results.systems)) > 1:
        for system, record in metrics_by_system(*args, results.systems).items():
            yield "all", system, record
