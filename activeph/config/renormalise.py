"""The keys of self-consistent phonons, for samplers with ``imaginary: renormalise``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from activeph.label.base import Labeler
from activeph.role import Role
from activeph.sample.base import within
from activeph.section import Section, wrong_value


class RenormaliseSection(Section):
    """How force constants are renormalised at each temperature: rounds of drawn, labelled and refitted structures."""

    statistics: Literal["quantum", "classical"] = "quantum"
    """Amplitudes of the draws and free energy with zero-point motion, or with k_B T per mode; as in the samplers."""
    draws: int = Field(default=8, ge=1, le=100_000)
    """Structures labelled per round."""
    max_rounds: int = Field(default=30, ge=3, le=1000)
    """Rounds after which a temperature that has not converged stops the campaign."""
    frequency_tolerance: float = Field(default=0.05, gt=0)
    """THz: root mean square change between rounds, and half the (upper) statistical error, at which frequencies stand
    still."""
    energy_tolerance: float = Field(default=0.001, gt=0)
    """eV per atom: change between rounds, and statistical error, at which the free energy stands still."""
    label: Annotated[Labeler, Role("labelers")] | None = None
    """Labeler of the forces, such as a trained MACE model; default: that of the campaign."""


def refuse_other_statistics(samplers: Mapping[str, Any], renormalised: Sequence[RenormaliseSection]) -> None:
    """Raise a validation error where a sampler (named by its key) wants renormalised modes of the other statistics."""
    for key, sampler in samplers.items():
        for one in within(sampler):
            for n, section in enumerate(renormalised):
                if getattr(one, "imaginary", None) == "renormalise" and one.statistics != section.statistics:
                    raise wrong_value(
                        f"must be {one.statistics}, as {key} draws",
                        "write the same in both: how far atoms move decides how stiff they are",
                        section.statistics,
                        ("systems", n, "renormalise", "statistics"),
                    )
