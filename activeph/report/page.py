"""``report.html``: the whole campaign on one page that needs no network and no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from activeph.records import Entry, System
from activeph.report.answer import answer, beside, counted
from activeph.report.results import Results, load_results
from activeph.report.style import SETTINGS
from activeph.report.tables import Table, final_table, savings_table, settings_table, spending_table
from activeph.rundir import RunDirectory, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #222; background: #fff;
       max-width: 1080px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
.verdict { border-left: 5px solid #0072B2; background: #f3f7fb; padding: 10px 16px; font-size: 17px; }
.verdict p { margin: 6px 0; } .note { color: #555; font-size: 14px; }
img { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; border-bottom: 2px solid #999; padding: 4px 12px 4px 0; vertical-align: bottom; }
td { border-bottom: 1px solid #e3e3e3; padding: 3px 12px 3px 0; vertical-align: top; }
tr.all td { font-weight: 600; } details { margin: 8px 0; } summary { cursor: pointer; font-weight: 600; }
@media print { body { max-width: none; } details > * { display: block; } h2 { break-after: avoid; } }
"""


def write_report(
    run_dir: Path,
    entries: Sequence[Entry] = (),
    systems: Mapping[str, System] | None = None,
    costs: Mapping[str, float] | None = None,
) -> Path:
    """Write ``report/report.html`` and return its path.

    With ``entries`` (the campaign's labels) and ``systems`` the page also shows what the labels were spent on, with
    ``costs`` (core-hours by ledger key) what they cost. Raises InputError where nothing has been evaluated yet. Equal
    results give an equal page.
    """
    path = RunDirectory(run_dir).report / "report.html"
    write_bytes(path, page(load_results(run_dir, costs), entries, systems or {}).encode())
    return path


def page(results: Results, entries: Sequence[Entry], systems: Mapping[str, System]) -> str:
    """Return the page as HTML."""
    from activeph.report.calibration import calibration
    from activeph.report.curves import learning_curve
    from activeph.report.distributions import broadness_table, distributions
    from activeph.report.scatter import parity, uncertainty_error

    sentences = "".join(f"<p>{html.escape(line)}</p>" for line in answer(results).splitlines())
    parts = [
        f"<h1>{html.escape(results.name)}</h1>",
        f'<p class="note">{html.escape(_summary(results))}</p>',
        f'<div class="verdict">{sentences}</div>',
        "<h2>Error against labels</h2>",
        *(f'<p class="note">{html.escape(line)}</p>' for line in [*_preparation(results), *_low_fidelity(results)]),
        _picture(lambda: learning_curve(results), "learning curves of every arm"),
        *_core_hours(results),
        "<h2>Labels saved at equal error</h2>",
        f'<p class="note">{html.escape(_METHOD)}</p>',
        _table(savings_table(results)),
        "<h2>Errors and calibration at the end</h2>",
        _folded("All metrics by target, arm and temperature (mean over repeats)", _table(final_table(results))),
        _picture(lambda: calibration(results), "calibration curves"),
        _folded("Parity plots", _picture(lambda: parity(results), "parity plots")),
        _folded("Error against uncertainty", _picture(lambda: uncertainty_error(results), "error against uncertainty")),
    ]
    if entries:
        parts += [
            "<h2>What the labels were spent on</h2>",
            f'<p class="note">{html.escape(_BROADNESS)}</p>',
            _picture(lambda: distributions(results, entries, systems), "distributions of displacement and energy"),
            _folded("How broad test set, pools and labels are", _table(broadness_table(results, entries, systems))),
        ]
    parts += [
        "<h2>Spending</h2>",
        _table(spending_table(results, entries)),
        "<h2>Settings and versions</h2>",
        _folded("The resolved campaign", _table(settings_table(results.campaign))),
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(results.name)}</title><style>{CSS}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}{viewport}</head>\n<body>\n{body}\n</body>\n</html>\n'


def _core_hours(results: Results) -> list[str]:
    if not results.costs:
        return []
    from activeph.report.core_hours import caption, core_hours_curve

    return [
        "<h2>Error against core-hours</h2>",
        f'<p class="note">{html.escape(caption(results))}</p>',
        _picture(lambda: core_hours_curve(results), "errors over labels and over core-hours"),
    ]


def _preparation(results: Results) -> list[str]:
    """Return what to know of labels that all arms train on and none has paid for."""
    if not results.prepared:
        return []
    places = {(pick.system, pick.temperature) for pick in results.preparation}
    drawn = ", ".join(f"{system} at {temperature:g} K" for system, temperature in sorted(places))
    known = [results.costs[pick.key] for pick in results.preparation if pick.key in results.costs]
    cost = f"They cost {sum(known):.3g} core-hours, once for all arms. " if known else ""
    return [
        f"The training data of every arm hold, from the first round on, {beside(results)}: draws of its renormalised "
        f"phonons ({drawn}). {cost}They are neither in the budget of labels nor on the axes below, which count what "
        "arms add to them. A campaign without renormalised phonons would not have them: an arm that needs none, such "
        "as random displacements, may be better here than it would be alone."
    ]


def _low_fidelity(results: Results) -> list[str]:
    """Return what to know of a model that corrects a cheap code."""
    section = results.campaign.get("low_fidelity")
    if not section:
        return []
    name = " ".join(str(section[key]) for key in ("kind", "method") if section.get(key))
    return [
        f"Band gap and band edges are learned, by all arms alike, as corrections to those of a cheap code ({name}): "
        "one calculation of it goes with every label, and with every structure that is predicted. They are not "
        "counted as labels; their core-hours are."
    ]


_METHOD = (
    "Read off the mean learning curves: where an arm reaches the error that the baseline has at the end of its labels. "
    "The interval takes in the chance of repeats (pooled over arms) and of the test structures; 'or more' and 'or less'"
    " mark the edge of what the rounds measured could show."
)

_BROADNESS = (
    "Selection can only gain where an arm's pool is broader than the test set. The first labels of an arm are drawn at "
    "random from its pool and show how broad that is (thin lines)."
)


def _summary(results: Results) -> str:
    repeats = [len(found) for found in results.rounds.values()]
    most = counted(max(repeats), "repeat")
    each = most if len(set(repeats)) == 1 else f"up to {most}"
    systems = ", ".join(sorted(set(results.systems)))
    arms = f"{'arm' if len(results.rounds) == 1 else 'arms'} {', '.join(results.rounds)}"
    state = "finished" if results.finished else "not finished"
    return (
        f"{systems}; {counted(len(results.truth), 'test structure')}; {arms} with "
        f"{each} of {counted(results.budget, 'label')}; baseline {results.baseline}; {state}."
    )


def _picture(draw: Callable[[], Figure], name: str) -> str:
    import matplotlib as mpl
    from matplotlib.style import context

    stream = io.BytesIO()
    with context("default"), mpl.rc_context({**SETTINGS, "svg.fonttype": "path"}):
        draw().savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/svg+xml;base64,{text}">'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    rows = []
    for row in table.rows:
        mark = ' class="all"' if "all" in row else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>\n{chr(10).join(rows)}\n</table></div>'


def _folded(name: str, content: str) -> str:
    return f"<details><summary>{html.escape(name)}</summary>{content}</details>"
