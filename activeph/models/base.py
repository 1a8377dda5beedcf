"""The seam between the loop and everything that learns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from activeph.errors import InputError
from activeph.records import Block, Dataset, Prediction, System

Device = Literal["auto", "cpu", "cuda"]
"""Processor that networks compute on; auto is a GPU where torch finds one, else the CPU."""
CURVE_COLUMNS = ("step", "held_out_loss", "target_loss", "force_loss")
"""What a point of a learning curve holds: mean squared errors on held-out labels, and on what was trained since the
point before; targets in standard deviations, forces in their root mean square. A curve may stop after any column."""


class Predictor(Protocol):
    """A trained ensemble, ready to score."""

    def predict(self, block: Block) -> Prediction:
        """Return members' values and features for every configuration of the block."""
        ...


class Model(Protocol):
    """A recipe: how one member is trained, and how members together predict. Picklable, holds no weights."""

    @property
    def kind(self) -> str:
        """What a campaign file calls it."""
        ...

    @property
    def members(self) -> int:
        """Number of independent fits; each may run in another process."""
        ...

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member and return its state: deterministic in (dataset, seed, warm), ``warm`` an earlier state."""
        ...

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> Predictor:
        """Return the ensemble made of the members' states."""
        ...


@runtime_checkable
class Traced(Protocol):
    """A model whose members are trained step by step and keep a record of how that went."""

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return the points of a member's training, each with the columns of :data:`CURVE_COLUMNS`."""
        ...


def read_arrays(state: bytes, *names: str) -> dict[str, Any]:
    """Return the arrays in a member's state that is an npz archive.

    Raises InputError where it is damaged, or lacks one of the names, as those of other kinds of models do.
    """
    try:
        with np.load(io.BytesIO(state)) as arrays:
            record = dict(arrays)
    except Exception as error:  # numpy, zipfile and pickle each have their own
        raise InputError(unreadable(f"a damaged one ({type(error).__name__})")) from None
    if not set(names) <= set(record):
        raise InputError(unreadable("that of another kind of model"))
    return record


def unreadable(reason: str) -> str:
    """Return the sentence for a member's state that cannot be used."""
    return (
        f"a member's state must be one that this version of activeph can read but got {reason}; train the model anew, "
        "or use the version of activeph that trained it."
    )
