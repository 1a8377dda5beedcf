"""Are the error bars right? Measures of it, and their correction from held-out labels.

Measures after K. Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020), for normally distributed errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeph.graphs.displacements import mirrored
from activeph.records import Block, Dataset, FloatArray, IntArray, System

TAIL = 4.0  # degrees of freedom of held-out errors
SHARES = np.array([0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.999])
"""Of the typical variance, equal for all configurations; never the whole of it, since selectors rank by the rest."""
STRETCHES = np.geomspace(0.5, 2.0, 41)
LARGEST = 5.0  # ratio of errors of unseen and seen labels that is believed
SAME = 0.01  # of the typical error: what members say of an image that is the label itself, but for rounding
LEVELS = np.linspace(0.01, 0.99, 99)  # central intervals at which coverage is compared with its nominal value


def calibration_metrics(errors: FloatArray, deviations: FloatArray) -> dict[str, float]:
    """Return the quality of standard deviations [S] given errors [S] of one target.

    ``nll`` mean negative log likelihood; ``miscalibration_area`` between observed and nominal coverage over all
    central intervals (0 perfect, 0.5 worst); ``coverage_68`` and ``coverage_95`` observed; ``spearman`` rank
    correlation of deviation and absolute error (nan where one is constant). Infinite where a deviation is zero.
    """
    from scipy.stats import norm, spearmanr

    ratios = np.abs(errors) / np.maximum(deviations, 1e-300)
    halves = norm.ppf(0.5 + LEVELS / 2)
    observed = np.mean(ratios[:, None] <= halves, axis=0)
    with np.errstate(over="ignore"):
        nll = float(np.mean(0.5 * ratios**2 + np.log(np.maximum(deviations, 1e-300)) + 0.5 * np.log(2 * np.pi)))
    varied = np.ptp(deviations) > 0 and np.ptp(errors) > 0
    return {
        "nll": nll,
        "miscalibration_area": float(np.mean(np.abs(observed - LEVELS))),
        "coverage_68": float(np.mean(ratios <= norm.ppf(0.5 + 0.6827 / 2))),
        "coverage_95": float(np.mean(ratios <= norm.ppf(0.5 + 0.9545 / 2))),
        "spearman": float(spearmanr(deviations, np.abs(errors))[0]) if varied else float("nan"),
    }


@dataclass(frozen=True, eq=False)
class Recalibration:
    """True deviations from predicted ones: √(floor² + (factor σ)²), for each target."""

    floors: FloatArray  # [P] in the targets' units: what no member knows of, such as noise of the labels
    factors: FloatArray  # [P]

    def apply(self, deviations: FloatArray) -> FloatArray:
        """Return recalibrated deviations [S, P]."""
        return np.asarray(np.sqrt(self.floors**2 + (self.factors * deviations) ** 2))


def unchanged(n_targets: int) -> Recalibration:
    """Return the recalibration that leaves deviations as they are."""
    return Recalibration(np.zeros(n_targets), np.ones(n_targets))


def fit_recalibration(errors: FloatArray, deviations: FloatArray) -> Recalibration:
    """Return the recalibration from held-out errors and deviations [S, P].

    How much of the variance is equal for all follows from the likelihood of Student's t errors, which single gross
    errors do not sway; the size then from the least miscalibration area.
    """
    fits = [_fit_one(errors[:, p], deviations[:, p]) for p in range(errors.shape[1])]
    return Recalibration(np.array([floor for floor, _ in fits]), np.array([factor for _, factor in fits]))


def _fit_one(errors: FloatArray, deviations: FloatArray) -> tuple[float, float]:
    from scipy.stats import norm

    typical = float(np.median(np.abs(errors))) / norm.ppf(0.75)
    spread = float(np.median(deviations))
    if typical <= 0 or spread <= 0:
        return max(typical, 0.0), 1.0
    shares, stretches = np.meshgrid(SHARES, STRETCHES, indexing="ij")
    relative = np.sqrt(shares[..., None] + (1 - shares[..., None]) * (deviations / spread) ** 2)  # [share, stretch, S]
    trials = stretches[..., None] * typical * relative
    ratios = np.abs(errors) / trials
    costs = np.mean(0.5 * (TAIL + 1) * np.log1p(ratios**2 / TAIL) + np.log(trials), axis=2)
    best = int(np.argmin(costs.min(axis=1)))
    entered = np.sort(2 * norm.cdf(ratios[best]) - 1, axis=1)  # the level at which each error enters its interval
    observed = np.stack([np.searchsorted(row, LEVELS, side="right") / len(row) for row in entered])
    areas = np.mean(np.abs(observed - LEVELS), axis=1)
    stretch = float(np.mean(STRETCHES[areas <= areas.min() + 0.003]))
    share = float(SHARES[best])
    return stretch * typical * np.sqrt(share), stretch * typical / spread * np.sqrt(1 - share)


def recalibrate_ensemble(records: Sequence[Mapping[str, Any]], with_seen: bool = False) -> Recalibration:
    """Return what turns the spread of an ensemble into the deviation of its mean, from its members' records.

    Each record holds ``targets`` and ``values`` [S, P] of the labels, the rows ``held_out`` [H] that this member has
    not seen, and its values ``unseen`` [S, P] of configurations like the labels that none has seen: most members have
    seen a label that one holds out, and agree there more than elsewhere.

    ``with_seen`` counts the labels that a member has seen too, with errors made as large as those on the others: for
    models whose training ends long before they know their labels by heart.
    """
    n = len(records)
    unseen = [record.get("unseen", record["values"]).numpy() for record in records]  # earlier members lack it
    if n == 1 or len({len(values) for values in unseen}) > 1 or not (held := _held_out(records)).any():
        return unchanged(unseen[0].shape[1])
    errors = np.array([(record["targets"] - record["values"]).numpy() for record in records])
    deviations = np.broadcast_to(np.std(unseen_values(records), axis=0, ddof=1), errors.shape)
    if with_seen:
        errors, held = as_if_held_out(errors, held), np.ones_like(held)
    return recalibrate_mean(errors[held], deviations[held], deviations[held], n)


def _held_out(records: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """Return which labels each member has not seen [K, S]."""
    n_labels = len(records[0]["targets"])
    return np.array([np.isin(np.arange(n_labels), record["held_out"].numpy()) for record in records])


def unseen_values(records: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Return members' values [K, S, P] where nobody has seen a label: at its mirror image.

    Where that is the label itself (every site a centre of inversion, or atoms other than the supercell's), those that
    members would have with errors as large on labels that they have seen as on the others.
    """
    values = np.array([record["values"].numpy() for record in records])
    images = np.array([record.get("unseen", record["values"]).numpy() for record in records])
    targets, held = records[0]["targets"].numpy(), _held_out(records)
    errors = targets - values
    typical = np.sqrt(np.mean(errors**2, axis=(0, 1)))
    same = np.all(np.abs(images - values) <= SAME * typical, axis=(0, 2))
    if not (held.any() and same.any()):
        return images
    return np.where(same[:, None], targets - as_if_held_out(errors, held), images)


def as_if_held_out(errors: FloatArray, held: NDArray[np.bool_]) -> FloatArray:
    """Return members' errors [K, S, P], those of labels they were trained on made as large as those of the others.

    ``held`` [K, S] are the labels that each member has not seen. Medians are compared.
    """
    if np.all(held):
        return errors
    typical = np.median(np.abs(errors[held]), axis=0), np.median(np.abs(errors[~held]), axis=0)
    larger = np.clip(typical[0] / np.maximum(typical[1], 1e-300), 1, LARGEST)
    return np.where(held[:, :, None], errors, larger * errors)


def recalibrate_mean(errors: FloatArray, deviations: FloatArray, spread: FloatArray, n: int) -> Recalibration:
    """Return the recalibration of a mean over ``n`` members from errors of single ones, all [H, P].

    Of a member's squared error the mean keeps what all share and an n-th part of the members' variance (``spread``
    squared).
    """
    from scipy.stats import chi2

    fitted = fit_recalibration(errors, deviations)
    own = np.median(spread**2 / np.maximum(fitted.apply(deviations) ** 2, 1e-300), axis=0)
    own = own * (n - 1) / chi2.median(n - 1)  # the median of a sample's variances is below their mean
    kept = np.sqrt(np.clip(1 - (n - 1) / n * own, 1 / n, 1))
    return Recalibration(fitted.floors * kept, fitted.factors * kept)


def recalibrated(members: FloatArray, recalibration: Recalibration) -> FloatArray:
    """Return members [K, B, P] with the same mean and recalibrated spread."""
    if len(members) == 1:
        return members
    deviations = recalibration.apply(members.std(axis=0, ddof=1))
    return np.asarray(members.mean(axis=0) + spread_out(members, deviations))


def unseen(dataset: Dataset, systems: Mapping[str, System]) -> Dataset:
    """Return a dataset of configurations like the labelled ones, each displacement reversed, with the same targets."""
    known = (systems.get(block.system) for block in dataset.blocks)
    blocks = (mirrored(block, own) if own else block for block, own in zip(dataset.blocks, known, strict=True))
    return replace(dataset, blocks=tuple(blocks))


def spread_out(draws: FloatArray, deviations: FloatArray) -> FloatArray:
    """Return what members [K, B, P] add to the posterior mean: draws, with mean 0 and the given sample deviation.

    So K members already have the posterior's mean and spread, not those of K random draws. Equal draws add nothing.
    """
    centred = draws - draws.mean(axis=0)
    sample = np.sqrt(np.sum(centred**2, axis=0) / max(len(draws) - 1, 1))
    equal = sample <= 1e-12 * (1e-12 + np.abs(draws).max(axis=0))
    return np.where(equal, 0.0, centred / np.where(equal, 1.0, sample) * deviations)


def take(dataset: Dataset, rows: IntArray | Sequence[int]) -> Dataset:
    """Return some rows of a dataset, in rising order."""
    wanted = np.zeros(len(dataset), dtype=bool)
    wanted[rows] = True
    blocks, forces, start = [], [], 0
    for block, force in zip(dataset.blocks, dataset.forces, strict=True):
        own = wanted[start : start + len(block)]
        start += len(block)
        if own.any():
            blocks.append(
                Block(
                    block.system,
                    block.species[own],
                    block.positions[own],
                    block.cells[own],
                    block.temperatures[own],
                )
            )
            forces.append(force[own])
    return Dataset(
        tuple(blocks),
        dataset.target_names,
        dataset.targets[wanted],
        dataset.energies[wanted],
        tuple(forces),
        dataset.stresses[wanted],
    )
