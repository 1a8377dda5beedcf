"""The keys of thermal expansion from vibrations, for samplers with ``expansion: quasi-harmonic``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from activeph.label.base import Labeler
from activeph.role import Role
from activeph.section import InputPath, Section, wrong_value

Strain = Annotated[float, Field(gt=-0.2, lt=0.2)]


class VolumeSection(Section):
    """The crystal at one volume, computed elsewhere."""

    force_constants: InputPath
    """Any phonopy file that says which cell it belongs to: the crystal with all lengths stretched alike."""
    energy: float
    """Energy of the undisplaced crystal in that cell, in eV per unit cell of `structure`."""


class QuasiHarmonicSection(Section):
    """How the cell of least free energy E(V) + F_vib(V, T) is found: the crystal's phonons at several volumes.

    The cell changes in size and keeps its shape; fractional coordinates stay.
    """

    strains: tuple[Strain, ...] = Field((-0.01, 0.0, 0.01, 0.02, 0.03, 0.04), strict=False, min_length=4)
    """Relative changes of all lengths at which energy and force constants are labelled; four at least, which must
    enclose the cells of all temperatures."""
    files: tuple[VolumeSection, ...] | None = Field(None, strict=False, min_length=4)
    """Force constants and energies at several volumes from elsewhere; then nothing is labelled and `strains` is not
    used."""
    statistics: Literal["quantum", "classical"] = "quantum"
    """Free energy of the vibrations with zero-point motion and Bose-Einstein occupation, or k_B T per mode."""
    label: Annotated[Labeler, Role("labelers")] | None = None
    """Labeler of energies and forces, such as a trained MACE model; default: that of the campaign."""

    @field_validator("strains")
    @classmethod
    def _strains_rise(cls, strains: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(strains)) != len(strains):
            raise wrong_value("must name each strain once", "remove the repeated one")
        return tuple(sorted(strains))

    @model_validator(mode="before")
    @classmethod
    def _strains_or_files(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("files") is not None and "strains" in values:
            raise wrong_value("must have strains or files but not both", "files say their cells themselves")
        return values
