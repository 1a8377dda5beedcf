"""How pictures look: colours that colour-blind readers can tell apart, one per arm, and deterministic files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activeph.targets import TARGETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6000")
"""After M. Okabe and K. Ito, Color Universal Design (2008), yellow replaced by brown to stand out on white."""
BASELINE_COLOUR = "#555555"
MARKERS = "osD^vPX"

SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "activeph",
    "svg.fonttype": "none",
    "savefig.dpi": 150,
}


@dataclass(frozen=True)
class ArmStyle:
    """Line of one arm."""

    colour: str
    marker: str
    line: str


def arm_styles(arms: Sequence[str], baseline: str) -> dict[str, ArmStyle]:
    """Return one style per arm; the baseline is grey and dashed in every campaign."""
    others = [arm for arm in arms if arm != baseline]
    styles = {
        arm: ArmStyle(COLOURS[i % len(COLOURS)], MARKERS[1 + i % (len(MARKERS) - 1)], "-")
        for i, arm in enumerate(others)
    }
    return {arm: styles.get(arm, ArmStyle(BASELINE_COLOUR, MARKERS[0], "--")) for arm in arms}


def target_label(name: str) -> str:
    """Return a target's name as a reader would write it."""
    return name.replace("_", " ")


def unit(name: str) -> str:
    """Return the unit a target is printed in."""
    return TARGETS[name].printed_unit


def save(figure: Figure, path: Path, vector: bool) -> list[Path]:
    """Write a figure as PNG and, if ``vector``, as SVG; return the paths. No dates: equal results, equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_suffix(".png")]
    figure.savefig(written[0], metadata={"Software": None})
    if vector:
        figure.set_layout_engine("none")  # places are known now
        written.append(path.with_suffix(".svg"))
        figure.savefig(written[1], metadata={"Date": None, "Creator": None})
    return written
