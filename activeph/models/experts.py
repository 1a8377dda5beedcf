"""Mode expansion, expansion corrected by a network, network alone: how far each is to be believed, and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from activeph.models.calibration import (
    Recalibration,
    as_if_held_out,
    recalibrate_ensemble,
    recalibrate_mean,
    spread_out,
    unchanged,
    unseen_values,
)
from activeph.records import FloatArray

DOUBT, N_IMAGINED = 1.5, 6  # by measurement at 25 labels, where members hold out a dozen
N_IMAGINED_TAUGHT = 2  # of the energy, of which the network has learned 3 N derivatives per label as well


def expert_errors(truth: FloatArray, left_over: FloatArray, guesses: FloatArray) -> FloatArray:
    """Return absolute errors [3, H, P] of expansion, corrected expansion and network on held-out labels.

    ``truth`` and ``left_over`` are [H, P], ``guesses`` [H, 2 P] what the network says of either.
    """
    whole, rest = np.split(guesses, 2, axis=1)
    return np.abs(np.stack([left_over, left_over - rest, truth - whole]))


def expert_weights(errors: FloatArray, taught: int | None = None) -> FloatArray:
    """Return the weights [3, P] of the experts from their absolute errors [3, H, P].

    Inverse fourth powers of the means: near-equal experts are averaged, a clearly worse one is silent. The network
    must prove itself: its means include a few imagined errors larger than the expansion's, which weigh less the more
    labels are held out; fewer of the target ``taught``, whose derivatives it has learned.
    """
    if errors.shape[1] == 0:
        return np.full((3, errors.shape[2]), 1 / 3)
    means = errors.mean(axis=1)
    n, doubted = errors.shape[1], DOUBT * means[0]
    imagined = np.where(np.arange(errors.shape[2]) == taught, N_IMAGINED_TAUGHT, N_IMAGINED)
    means[1:] = (n * means[1:] + imagined * doubted) / (n + imagined)
    ratios = (means.min(axis=0) + 1e-12) / (means + 1e-12)
    return np.asarray(ratios**4 / (ratios**4).sum(axis=0))


@dataclass(frozen=True, eq=False)
class Experts:
    """Weights of the experts, and the size of the errors of what they say together."""

    weights: FloatArray  # [3, P]
    together: Recalibration
    network: Recalibration  # alone, of configurations that the expansion says nothing of

    def mix(self, expansion: FloatArray, networks: FloatArray) -> FloatArray:
        """Return members [K, B, P] from the expansion's and the networks' [K, B, 2 P]: targets, and what it leaves."""
        alone, corrected, _ = self.weights
        networks = self.networks(networks)
        members = (alone + corrected) * expansion + networks
        if len(members) == 1:
            return np.asarray(members)
        expected = np.hypot((alone + corrected) * expansion.std(axis=0, ddof=1), networks.std(axis=0, ddof=1))
        return np.asarray(members.mean(axis=0) + spread_out(members, self.together.apply(expected)))

    def networks(self, values: FloatArray) -> FloatArray:
        """Return the networks' part of what is said [..., P] from all that they say [..., 2 P]."""
        whole, rest = np.split(values, 2, axis=-1)
        return np.asarray(self.weights[1] * rest + self.weights[2] * whole)


def judge_experts(
    records: Sequence[Mapping[str, Any]], deviations: FloatArray, left_out: FloatArray | None = None
) -> Experts:
    """Return the experts from the records of all members' networks, judged by the labels that those hold out.

    ``deviations`` [S, P] are what the expansion expects of its own left-out errors, NaN where it says nothing. The
    networks' targets [S, 2 P] are the labels' and what the expansion of the other labels leaves of them. ``left_out``
    [S, P] is the same by expansions that have not seen the label in any way: what their errors are known from.
    ``energy`` in a record is the column whose derivatives, the forces, the network has learned.
    """
    n_targets = deviations.shape[1]
    expanded = np.isfinite(deviations).all(axis=1)
    truth, left_over = np.split(records[0]["targets"].numpy()[expanded], 2, axis=1)
    left_over = left_over if left_out is None else left_out[expanded]
    guesses = [record["values"].numpy()[expanded] for record in records]
    held = [np.isin(np.flatnonzero(expanded), record["held_out"].numpy()) for record in records]
    errors = [expert_errors(truth[out], left_over[out], guess[out]) for out, guess in zip(held, guesses, strict=True)]
    weights = expert_weights(np.concatenate(errors, axis=1), records[0].get("energy"))
    alone = recalibrate_ensemble(records)
    network = Recalibration(alone.floors[:n_targets], alone.factors[:n_targets])
    experts = Experts(weights, unchanged(n_targets), network)
    if len(records) == 1 or not np.any(held):
        return experts
    spread = experts.networks(unseen_values(records)[:, expanded]).std(axis=0, ddof=1)
    expected = np.hypot((weights[0] + weights[1]) * deviations[expanded], spread)
    of_networks = experts.networks(np.concatenate([truth, left_over], axis=1) - np.array(guesses))  # [K, S, P]
    together = weights[0] * left_over + as_if_held_out(of_networks, np.array(held))
    tiles = (len(records), 1)
    recalibration = recalibrate_mean(
        np.concatenate(together), np.tile(expected, tiles), np.tile(spread, tiles), len(records)
    )
    return replace(experts, together=recalibration)
