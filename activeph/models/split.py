"""Which labels a member trains on, and which it is judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeph.records import Block, Dataset, FloatArray

LEAST_TRAINED = 2  # labels that must stay to be trained on


@dataclass(frozen=True, eq=False)
class Split:
    """A member's division of the labels, and what its earlier state was trained on."""

    seed: int
    draws: FloatArray  # [S] each label's number, whatever else is in the dataset
    held_out: NDArray[np.bool_]  # [S] what the member does not train on
    seen: FloatArray  # numbers of the labels that the earlier state and those before it were trained on

    @property
    def judges(self) -> NDArray[np.bool_]:
        """Held-out labels [S] that the earlier state has not seen either: what it may be judged by.

        With few labels the held-out ones are those of the smallest numbers, among which others may come to be later.
        """
        return self.held_out & ~np.isin(self.draws, self.seen)

    def record(self, was_warm: bool) -> dict[str, Any]:
        """Return what a member's state keeps of it; ``was_warm`` where it was trained on from the earlier state."""
        import torch

        own = self.draws[~self.held_out]
        return {
            "split_seed": self.seed,
            "held_out": torch.from_numpy(np.flatnonzero(self.held_out)),
            "trained_on": torch.from_numpy(np.union1d(own, self.seen) if was_warm else np.sort(own)),
        }


def split_labels(dataset: Dataset, seed: int, fraction: float, earlier: Mapping[str, Any] | None = None) -> Split:
    """Return the division of a dataset; that of an earlier state goes on, so that what it held out stays held out."""
    seed = int(earlier["split_seed"]) if earlier else seed
    draws = _draws(dataset, seed)
    if earlier is None:
        seen = np.zeros(0)
    elif "trained_on" in earlier:
        seen = earlier["trained_on"].numpy()
    else:  # a state of an earlier version may have seen all of them
        seen = draws
    return Split(seed, draws, _smallest(draws, fraction), seen)


def _smallest(draws: FloatArray, fraction: float) -> NDArray[np.bool_]:
    """Return the draws below the fraction; where they are too few or too many, as many of the smallest as it means."""
    chosen = draws < fraction
    wanted = min(max(1, round(fraction * len(draws))), len(draws) - LEAST_TRAINED)
    if chosen.sum() < wanted / 2 or len(draws) - chosen.sum() < LEAST_TRAINED:
        chosen = np.zeros(len(draws), dtype=bool)
        chosen[np.argsort(draws)[: max(wanted, 0)]] = True
    return chosen


def _draws(dataset: Dataset, seed: int) -> FloatArray:
    return np.array([_draw(seed, block, row) for block in dataset.blocks for row in range(len(block))])


def _draw(seed: int, block: Block, row: int) -> float:
    """Return a number in [0, 1) that depends on seed and positions (rounded to 1e-6 Å) alone."""
    places = np.round(block.positions[row], 6) + 0.0
    digest = hashlib.sha256(str(seed).encode() + places.tobytes()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
