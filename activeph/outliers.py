"""Labels that converged and are still not believed: where a code found another electronic state, or wrote nonsense.

The configurations that a campaign is there to find are the extreme ones, so a label is never doubted for being
extreme. It is doubted where its own numbers contradict each other, or where an ensemble is surprised in the midst of
what it has proven to know:

- *Energy against forces.* Displacing atoms by u costs about the work ``w = -½ Σ F·u`` (exact in a harmonic crystal;
  half the stress times the strain is added where the cell is strained), and never much more than
  ``A = ½ Σ |F||u|``, however anharmonic. With E₀ the median of E - w and S the median of A,
  ``|E - E₀ - w| > 2 (A + S)`` is no energy of these forces, and ``A > 12 (|E - E₀| + S)`` are no forces of this energy.
  Over 1100 labels of KBr up to its melting point, and DFT labels of Ag3SBr with atoms that leave their sites, the
  largest values are 0.65 and 3.7 in place of 2 and 12.
- *Energy against the ensemble*, for configurations displaced no further than nine tenths of the test set: an error
  above 25 times both the ensemble's spread and its typical error on the test set, and above half of A + S. The
  largest error of a sound label was 11 times that scale, with ensembles trained on eight labels and on a hundred.

Both are absurd to a sound label, and both let a wrong one pass that is only a little wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activeph.records import Configuration, FloatArray, Label, System

FEWEST = 8  # labels that a scale is taken from
ENERGY_OFF = 2.0
FORCES_LARGE = 12.0
FORCES_SMALL = 30.0  # times smaller than usual though atoms are displaced as usual
SURPRISE = 25.0
SURPRISE_OF_SCALE = 0.5
WITHIN = 0.9  # share of the test set that is displaced less: there the ensemble's error is known


@dataclass(frozen=True, eq=False)
class Facts:
    """What of labels of one system tells sound from unsound. L labels; NaN where the labeler gives no forces."""

    energy: FloatArray  # [L] eV
    work: FloatArray  # [L] eV, w
    size: FloatArray  # [L] eV, A
    force: FloatArray  # [L] eV/Å, root mean square
    rms: FloatArray  # [L] Å
    furthest: FloatArray  # [L] Å, of one atom

    def part(self, rows: Sequence[int] | FloatArray) -> Facts:
        """Return the facts of some labels."""
        return Facts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def facts_of(labels: Sequence[Label], system: System) -> Facts:
    """Return the facts of labels of one system, whose atoms are in the system's order."""
    rows = [_facts(label, system.supercell) for label in labels]
    return Facts(*np.array(rows, dtype=np.float64).reshape(-1, 6).T)


def contradictions(new: Facts, reference: Facts) -> list[str | None]:
    """Return why each new label cannot be right in itself, None where nothing speaks against it.

    ``reference`` are labels of the same atoms, the new ones among them; fewer than :data:`FEWEST` tell nothing.
    """
    if np.isfinite(reference.work).sum() < FEWEST:
        return [None] * len(new.energy)
    zero = float(np.nanmedian(reference.energy - reference.work))
    scale = float(np.nanmedian(reference.size))
    usual_force, usual_rms = float(np.nanmedian(reference.force)), float(np.median(reference.rms))
    found: list[str | None] = []
    for energy, work, size, force, rms in zip(new.energy, new.work, new.size, new.force, new.rms, strict=True):
        off = abs(energy - zero - work)
        if off > ENERGY_OFF * (size + scale):
            found.append(
                f"its energy is {off:.3g} eV away from the work of its forces, where {size + scale:.3g} eV is usual"
            )
        elif size > FORCES_LARGE * (abs(energy - zero) + scale):
            found.append(f"its forces would do {size:.3g} eV of work where its energy is {abs(energy - zero):.3g} eV")
        elif force * FORCES_SMALL < usual_force and rms > usual_rms / 3:
            found.append(f"its forces are {force:.3g} eV/Å where {usual_force:.3g} eV/Å is usual at like displacements")
        else:
            found.append(None)
    return found


def surprises(
    new: Facts, predicted: FloatArray, spread: FloatArray, test: Facts, test_predicted: FloatArray
) -> list[str | None]:
    """Return how each new label [L] contradicts an ensemble where that is known to be right, None where it does not.

    ``predicted`` and ``spread`` are energies [L] (eV), ``test_predicted`` [T] those of the test set.
    """
    if len(test.energy) < FEWEST:
        return [None] * len(new.energy)
    typical = 1.4826 * float(np.median(np.abs(test.energy - test_predicted)))
    usual = 1.4826 * float(np.median(np.abs(test.energy - np.median(test.energy))))
    scale = np.nan_to_num(new.size) + (usual if np.isnan(test.size).all() else float(np.nanmedian(test.size)))
    error = np.abs(new.energy - predicted)
    known = (new.rms <= np.quantile(test.rms, WITHIN)) & (new.furthest <= np.quantile(test.furthest, WITHIN))
    wrong = known & (error > SURPRISE * np.maximum(spread, typical)) & (error > SURPRISE_OF_SCALE * scale)
    return [
        f"its energy is {off:.3g} eV away from the ensemble's, which is wrong by {typical:.2g} eV on the test set"
        if is_wrong
        else None
        for off, is_wrong in zip(error, wrong, strict=True)
    ]


def _facts(label: Label, site: Configuration) -> tuple[float, ...]:
    cell, forces = label.configuration.cell, label.forces
    fractions = label.configuration.positions @ np.linalg.inv(cell) - site.positions @ np.linalg.inv(site.cell)
    u = (fractions - np.rint(fractions)) @ cell
    u = u - u.mean(axis=0)  # a crystal that was moved as a whole is the same
    distances, strengths = np.linalg.norm(u, axis=1), np.linalg.norm(forces, axis=1)
    work, size = -0.5 * float(np.sum(forces * u)), 0.5 * float(np.sum(strengths * distances))
    strain = np.linalg.solve(site.cell, cell) - np.eye(3)
    if np.abs(strain).max() > 1e-6 and np.isfinite(label.stress).all():
        xx, yy, zz, yz, xz, xy = label.stress
        energies = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * strain * abs(np.linalg.det(cell))
        work, size = work + 0.5 * float(energies.sum()), size + 0.5 * float(np.abs(energies).sum())
    rms = float(np.sqrt(np.mean(distances**2)))
    return label.energy, work, size, float(np.sqrt(np.mean(strengths**2))), rms, float(distances.max())
