"""The keys of thermal expansion from vibrations, for samplers with ``expansion: quasi-harmonic``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from activeph.label.base import Labeler
from activeph.role import Role
from activeph.section import InputPath, Section, wrong_value

Strain = Annotated[float, Field(gt=-0.2, lt=0.2)]


class VolumeSection(Section):
    """The crystal in one cell, computed elsewhere."""

    force_constants: InputPath
    """Any phonopy file that says which cell it belongs to: the crystal with all lengths stretched alike, or with
    `shape: free` deformed as its symmetry allows, with atoms where they rest in that cell."""
    energy: float
    """Energy of the undisplaced crystal in that cell, in eV per unit cell of `structure`."""


class QuasiHarmonicSection(Section):
    """How the cell of least free energy E(V) + F_vib(V, T) is found: the crystal's phonons at several volumes, or,
    where its axes may expand differently, in cells of several volumes and shapes."""

    shape: Literal["kept", "free"] = "kept"
    """kept: all lengths change alike and fractional coordinates stay. free: the cell takes whatever shape its symmetry
    allows, and atoms are relaxed in each cell (zero static internal stress); for crystals that are not cubic
    (docs/expansion.md)."""

    strains: tuple[Strain, ...] = Field((-0.01, 0.0, 0.01, 0.02, 0.03, 0.04), strict=False, min_length=4)
    """Relative changes of all lengths at which energy and force constants are labelled; four at least, which must
    enclose the cells of all temperatures."""
    distortions: tuple[Strain, ...] = Field((-0.01, 0.01, 0.02), strict=False, min_length=2)
    """With `shape: free`, the changes of shape at constant volume that are labelled at a middle strain, and the two
    smallest of them at the smallest and the largest strain, for each kind that symmetry allows: 0.01 lengthens c by
    0.8 % and shortens a and b by 0.4 %. They must enclose the shapes of all temperatures."""
    files: tuple[VolumeSection, ...] | None = Field(None, strict=False, min_length=4)
    """Force constants and energies at several volumes (and shapes) from elsewhere; then nothing is labelled, and
    `strains` and `distortions` are not used."""
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

    @field_validator("distortions")
    @classmethod
    def _distortions_differ(cls, distortions: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(distortions)) != len(distortions) or 0.0 in distortions:
            raise wrong_value("must name each distortion once and none of zero", "write e.g. [-0.01, 0.01]")
        return tuple(sorted(distortions))

    @model_validator(mode="after")
    def _no_key_without_use(self) -> Self:
        """Refuse keys that do nothing; at their defaults they may stand, as in the file that a run records."""
        defaults = type(self).model_fields
        if self.files is not None and self.strains != defaults["strains"].default:
            raise wrong_value("must have strains or files but not both", "files say their cells themselves")
        if self.shape == "kept" and self.distortions != defaults["distortions"].default:
            raise wrong_value("must have shape: free where distortions are given", "add it, or remove distortions")
        return self
