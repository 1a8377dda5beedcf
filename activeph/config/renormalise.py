"""The keys of self-consistent phonons, for samplers with ``imaginary: renormalise``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from activeph.label.base import Labeler
from activeph.role import Role
from activeph.section import Section


class RenormaliseSection(Section):
    """How force constants are renormalised at each temperature: rounds of drawn, labelled and refitted structures."""

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
