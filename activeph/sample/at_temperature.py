"""What a campaign has found of a system at its temperatures, looked up by temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from activeph.errors import InputError
from activeph.records import System

NEAR = 0.5  # K
Found = TypeVar("Found")


def at_temperature(known: Mapping[float, Found], temperature: float, system: System, what: str) -> Found:
    """Return what is known at a temperature (K), such as ``what`` = "a quasi-harmonic cell".

    Raises:
        InputError: there is none within 0.5 K.
    """
    nearest = min(known, key=lambda T: abs(T - temperature), default=None)
    if nearest is None or abs(nearest - temperature) > NEAR:
        listed = ", ".join(f"{T:g}" for T in sorted(known)) or "none"
        raise InputError(
            f"system {system.name!r} must have {what} at {temperature:g} K but got {listed}; "
            "run the campaign, or activeph phonons with --compute: both find it before anything is drawn"
        )
    return known[nearest]
