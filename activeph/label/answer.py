"""From what a code printed to a label: the one place where bands become band edges."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import numpy as np

from activeph.errors import LabelFailed
from activeph.label.edges import band_edges
from activeph.records import Configuration, FloatArray, Label

GPA_IN_EV_PER_A3 = 1.0 / 160.21766208


@dataclass(frozen=True, eq=False)
class Answer:
    """The numbers of one converged calculation, in the units of :class:`activeph.records.Label`.

    The energy is the one that the forces are derivatives of: the free energy where occupations are smeared.
    """

    energy: float
    forces: FloatArray  # [N, 3]
    stress: FloatArray  # [6]
    eigenvalues: FloatArray  # [spins, k-points, bands]
    occupations: FloatArray  # [spins, k-points, bands], with or without the factor of the k-point's weight
    weights: FloatArray  # [k-points], any sum
    code_version: str | None
    scf_iterations: int | None


def label_of(configuration: Configuration, answer: Answer, provenance: dict[str, Any]) -> Label:
    """Return the label of an answer. Raises LabelFailed where it is not made of finite numbers of the right shapes."""
    n_atoms = len(configuration.numbers)
    wanted = {"forces": (n_atoms, 3), "stress": (6,), "occupations": answer.eigenvalues.shape}
    for name, shape in wanted.items():
        if getattr(answer, name).shape != shape:
            raise LabelFailed("crashed", f"{name} must have shape {shape} but got {getattr(answer, name).shape}")
    for name in ("energy", "forces", "stress", "eigenvalues", "occupations"):
        if not np.isfinite(getattr(answer, name)).all():
            raise LabelFailed("crashed", f"{name} must be finite but got NaN or infinity")
    weights = answer.weights / answer.weights.sum()
    occupations = unweighted(answer.occupations, weights)
    edges = band_edges(answer.eigenvalues, occupations, weights)
    return Label(
        configuration=configuration,
        energy=float(answer.energy),
        forces=answer.forces,
        stress=answer.stress,
        band_gap=edges.band_gap,
        direct_band_gap=edges.direct_band_gap,
        valence_band_maximum=edges.valence_band_maximum,
        conduction_band_minimum=edges.conduction_band_minimum,
        eigenvalues=answer.eigenvalues,
        occupations=occupations,
        provenance={
            "code_version": answer.code_version,
            "scf_iterations": answer.scf_iterations,
            "k_point_weights": weights.tolist(),
            "host": socket.gethostname(),
            **provenance,
        },
    )


def unweighted(occupations: FloatArray, weights: FloatArray) -> FloatArray:
    """Return occupations [spins, k-points, bands] that are 2 or 1 where full; ``weights`` [k-points] sum to 1.

    Some codes multiply them by the weight of the k-point. The lowest band is always full, which tells the two apart.
    """
    if occupations.size == 0:
        return occupations
    full = 2.0 if len(occupations) == 1 else 1.0
    is_weighted = np.allclose(occupations.max(axis=2), full * weights, rtol=1e-3)
    return np.asarray(occupations / weights[None, :, None] if is_weighted else occupations)
