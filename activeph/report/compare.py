"""Several campaigns side by side: what each arm of each run reached and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from activeph.report.answer import headline_savings, saved_labels_range
from activeph.report.curves import metric_curves
from activeph.report.results import Results, load_results
from activeph.report.style import target_label, unit
from activeph.report.tables import Table


def compare(run_dirs: Sequence[Path]) -> str:
    """Return a table in plain text, one row per run, arm and target, and a warning where errors cannot be compared.

    Raises InputError where a directory holds no evaluated round.
    """
    runs = [(path, load_results(path)) for path in run_dirs]
    table = comparison_table([(path.resolve().name, results) for path, results in runs])
    lines = _aligned(table)
    if not same_test_set([results for _, results in runs]):
        lines.append("These runs have different test sets: compare their labels saved, not their errors.")
    return "\n".join(lines)


def comparison_table(runs: Sequence[tuple[str, Results]]) -> Table:
    """Return final MAE (mean and half range over repeats) and labels saved of every arm, for named results."""
    rows: list[tuple[str, ...]] = []
    for name, results in runs:
        savings = {saving.arm: saving for saving in headline_savings(results)}
        for target in results.target_names:
            for arm in results.rounds:
                labels, values = metric_curves(results, arm, target, "mae")
                last = values[:, -1]
                spread = f" ± {np.ptp(last) / 2:.2g}" if len(last) > 1 else ""
                error = f"{last.mean():.3g}{spread} {unit(target)}"
                saved = "baseline" if arm == results.baseline else "-"
                if target == results.target_names[0] and arm in savings:
                    one = savings[arm]
                    interval = "1 repeat" if one.verdict == "unknown" else saved_labels_range(one)
                    saved = f"{round(one.saved)} ({interval})"
                besides = f" + {results.prepared} of the preparation" if results.prepared else ""
                spent = f"{labels[-1]:.0f} x {len(last)}{besides}"
                rows.append((name, target_label(target), arm, spent, error, saved))
    head = ("run", "target", "arm", "labels x repeats", "final MAE ± half range", "labels saved (95 % interval)")
    return Table(head, tuple(rows))


def same_test_set(runs: Sequence[Results]) -> bool:
    """Return whether all runs were measured on the same labels of the same targets."""
    first = runs[0]
    return all(
        one.target_names == first.target_names
        and one.truth.shape == first.truth.shape
        and np.allclose(one.truth, first.truth, rtol=0, atol=1e-9)
        for one in runs[1:]
    )


def _aligned(table: Table) -> list[str]:
    widths = [max(len(row[i]) for row in (table.head, *table.rows)) for i in range(len(table.head))]
    rows = (table.head, tuple("-" * width for width in widths), *table.rows)
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
