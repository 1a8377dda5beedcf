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
    train: bool = False
    """Whether all models also train on these labels, in every arm alike and from the first round on. They are paid for
    once, before any arm, and are in no arm's budget of labels; the report says how many they are."""


def refuse_untrainable(
    samplers: Mapping[str, Any], renormalised: Sequence[RenormaliseSection], labeler: Labeler
) -> None:
    """Raise a validation error where models are to train on draws that are not labelled as all others, or not made."""
    for n, section in enumerate(renormalised):
        key = ("systems", n, "renormalise", "train")
        if section.train and section.label not in (None, labeler):
            raise wrong_value(
                "must be false where renormalise.label is another labeler than that of the campaign",
                "forces of two labelers do not mix in one training set: remove one of the two keys",
                "true",
                key,
            )
        wanted = (getattr(one, "imaginary", None) for sampler in samplers.values() for one in within(sampler))
        if section.train and "renormalise" not in wanted:
            raise wrong_value(
                "must be false where no sampler has `imaginary: renormalise`", "no draws are labelled then", "true", key
            )


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
