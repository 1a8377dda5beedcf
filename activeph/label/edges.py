"""Band edges from eigenvalues and occupations: one definition for every code.

Electrons are counted and filled in from below, so smeared occupations and partly filled degenerate levels are treated
alike: an insulator has, in each spin channel, the same whole number of filled bands at every k-point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activeph.records import FloatArray

WHOLE = 0.02
"""How far the number of filled bands per spin may be from a whole number: smearing moves electrons between spin
channels of a magnet by far less than this as long as there is a gap."""

ROUNDED = 1e-3
"""What an occupation may lack in print: the half-filled band of one electron per cell has 0.9999999 of 2."""


@dataclass(frozen=True)
class BandEdges:
    """Energies in eV. A metal has gaps 0 and both edges at its highest filled level."""

    band_gap: float
    direct_band_gap: float
    valence_band_maximum: float
    conduction_band_minimum: float


UNKNOWN = BandEdges(float("nan"), float("nan"), float("nan"), float("nan"))
"""Of a labeler that gives no bands, and (gap and conduction band) of a calculation without empty bands."""


def band_edges(eigenvalues: FloatArray, occupations: FloatArray, weights: FloatArray | None = None) -> BandEdges:
    """Return the band edges of eigenvalues and occupations [spins, k-points, bands].

    A full band holds 2 electrons if there is one spin channel, else 1. ``weights`` [k-points] sum to 1 (default:
    equal). The fundamental gap may be indirect and may join two spin channels; the direct one keeps both.
    """
    if eigenvalues.size == 0:
        return UNKNOWN
    full = 2.0 if len(eigenvalues) == 1 else 1.0
    weights = np.full(eigenvalues.shape[1], 1.0 / eigenvalues.shape[1]) if weights is None else weights
    filled = np.einsum("skb,k->s", occupations, weights) / full  # bands per spin
    ordered = np.sort(eigenvalues, axis=-1)
    counts = np.round(filled).astype(int)
    if np.any(np.abs(filled - counts) > WHOLE):
        return _metal(eigenvalues, occupations, full)
    if np.any(counts >= eigenvalues.shape[2]):
        top = max(float(ordered[spin, :, count - 1].max()) for spin, count in enumerate(counts) if count)
        return BandEdges(float("nan"), float("nan"), top, float("nan"))
    top = max((float(ordered[spin, :, count - 1].max()) for spin, count in enumerate(counts) if count), default=-np.inf)
    bottom = min(float(ordered[spin, :, count].min()) for spin, count in enumerate(counts))
    if bottom <= top:
        return _metal(eigenvalues, occupations, full)
    direct = min(
        (
            float((ordered[spin, :, count] - ordered[spin, :, count - 1]).min())
            for spin, count in enumerate(counts)
            if count
        ),
        default=float("nan"),
    )
    return BandEdges(bottom - top, direct, top, bottom)


def _metal(eigenvalues: FloatArray, occupations: FloatArray, full: float) -> BandEdges:
    """Return gap 0 with both edges at the highest level that is at least half filled, or as filled as any is."""
    enough = min(0.5 * full, float(occupations.max())) - ROUNDED
    level = float(eigenvalues[occupations >= enough].max())
    return BandEdges(0.0, 0.0, level, level)
