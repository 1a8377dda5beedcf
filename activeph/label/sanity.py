"""What must hold before a calculation is worth its cost, and before its result may be called a label."""

from __future__ import annotations

import numpy as np

from activeph.errors import LabelFailed
from activeph.records import Configuration, Label

CLOSEST = 0.5
"""Smallest distance between atoms in units of the sum of their covalent radii: nuclei inside each other's core, which
no thermal motion reaches, and where pseudopotentials and bases are undefined."""


def check_distances(configuration: Configuration) -> None:
    """Raise LabelFailed (``unphysical``) where two atoms are closer than :data:`CLOSEST` times their covalent radii."""
    from ase.data import chemical_symbols, covalent_radii
    from matscipy.neighbours import neighbour_list

    radii = covalent_radii[configuration.numbers]
    first, second, distances = neighbour_list(
        "ijd",
        positions=configuration.positions,
        cell=configuration.cell,
        pbc=np.array([True, True, True]),
        cutoff=2 * CLOSEST * float(radii.max()),
    )
    ratios = distances / (radii[first] + radii[second])
    if len(ratios) and ratios.min() < CLOSEST:
        closest = int(np.argmin(ratios))
        names = [chemical_symbols[configuration.numbers[atom]] for atom in (first[closest], second[closest])]
        pair = f"atoms {first[closest]} ({names[0]}) and {second[closest]} ({names[1]})"
        raise LabelFailed("unphysical", f"{pair} are {distances[closest]:.2f} Å apart")


def check_label(label: Label) -> None:
    """Raise LabelFailed (``unphysical``) where a label holds an infinity, or NaN where it must not.

    NaN stands for what a labeler does not give: all forces, the whole stress, or band edges, never a part of them.
    """
    if not np.isfinite(label.energy):
        raise LabelFailed("unphysical", f"the energy must be finite but got {label.energy}")
    for name in ("forces", "stress", "eigenvalues", "occupations"):
        values = getattr(label, name)
        if np.isinf(values).any() or (np.isnan(values).any() and not np.isnan(values).all()):
            raise LabelFailed("unphysical", f"{name} must be finite numbers but got NaN or infinity among them")
    if label.forces.shape != label.configuration.positions.shape:
        raise LabelFailed("unphysical", f"forces must be one per atom but got shape {label.forces.shape}")
    if label.band_gap < 0:
        raise LabelFailed("unphysical", f"the band gap must not be negative but got {label.band_gap} eV")
