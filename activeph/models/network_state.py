"""What is kept of a trained network: tensors and numbers in one file, readable on every machine."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from activeph.errors import InputError
from activeph.models.base import unreadable
from activeph.models.graph_network import GraphNetwork
from activeph.models.scaling import Scaling

FORMAT = 3  # raised whenever states of an earlier version cannot be read
SCALING = ("scaled_elements", "baseline", "scale")


def write_state(record: Mapping[str, Any]) -> bytes:
    """Return a record of tensors and numbers as bytes; tensors are kept as those of a CPU."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **_on_cpu(record)}, buffer)
    return buffer.getvalue()


def read_state(state: bytes) -> dict[str, Any]:
    """Return the record in a state. Raises InputError where another version wrote it or it is damaged."""
    try:
        record = dict(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))
    except Exception as error:  # zipfile, pickle and torch each have their own
        raise InputError(unreadable(str(error).splitlines()[0] if str(error) else type(error).__name__)) from None
    if record.get("format") != FORMAT:
        raise InputError(unreadable(f"format {record.get('format', 1)} instead of {FORMAT}"))
    return record


def load_weights(network: GraphNetwork, record: Mapping[str, Any]) -> None:
    """Put a record's weights into a network. Raises InputError where they do not fit the model's settings."""
    weights: dict[str, Tensor] = record["network"]
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"a member's state must fit the model's settings but got {str(error).splitlines()[-1].strip()}; "
            "train it anew or restore the settings."
        ) from error


def scaling_record(scaling: Scaling) -> dict[str, Tensor]:
    """Return a scaling as part of a record."""
    arrays = (scaling.elements, scaling.baseline, scaling.scale)
    return {name: torch.from_numpy(array) for name, array in zip(SCALING, arrays, strict=True)}


def recorded_scaling(record: Mapping[str, Any]) -> Scaling:
    """Return the scaling in a record."""
    return Scaling(*(record[name].numpy() for name in SCALING))


def learning_curve(state: bytes) -> Sequence[tuple[float, ...]]:
    """Return the points of a member's training: step, held-out loss, training losses of targets and of forces."""
    return [tuple(point) for point in read_state(state)["curve"]]


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Mapping):
        return {name: _on_cpu(one) for name, one in value.items()}
    return value
