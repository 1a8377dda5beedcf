"""Point defects on every symmetry-distinct site; any other sampler displaces the atoms around them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from activeph.errors import InputError
from activeph.records import System
from activeph.role import Role
from activeph.sample.base import Pool, Sampler, informed
from activeph.sample.phonon import Kelvin
from activeph.section import Section, wrong_value

Symbol = Annotated[str, Field(pattern=r"^[A-Z][a-z]?$")]


class DefectsSampler(Section):
    """Supercells with one vacancy, substitution or interstitial each, on every symmetry-distinct site.

    A defect has other atoms than its host, so each is a system of its own, named after both (``KBr-vacancy-Br1``):
    pools, models and reports treat it like a crystal of the campaign, and candidates are shared equally among them.
    Atoms stand where they stand in the host and are displaced along its vibrations.
    """

    kind: Literal["defects"] = "defects"
    vacancies: tuple[Symbol, ...] = Field((), strict=False)
    """Elements of which one atom is missing, such as [Br]."""
    substitutions: dict[Symbol, Symbol | Annotated[tuple[Symbol, ...], Field(strict=False, min_length=1)]] = {}
    """Elements of which one atom is replaced, and by what: {Br: Cl} or {Br: [Cl, I]}."""
    interstitials: tuple[Symbol, ...] = Field((), strict=False)
    """Elements of which there is one atom more, in every distinct void of the crystal."""
    void: float = Field(1.2, gt=0, le=4)
    """Smallest radius of a void in Å: the distance from its middle to the nearest atom; beyond 4 Å it is vacuum."""
    host: bool = False
    """Whether the crystal without defect is sampled as well, as often as each defect."""
    sample: Annotated[Sampler, Role("samplers", default="phonon")] = Field(default={}, validate_default=True)  # type: ignore[assignment]
    """Sampler of any kind that displaces the atoms of each defect; its guards hold for the defect's atoms."""
    temperatures: tuple[Kelvin, ...] | None = Field(None, strict=False, min_length=1)
    """Temperatures in K of `sample` where it names none; null: those of the campaign."""

    @model_validator(mode="after")
    def _some_defect(self) -> DefectsSampler:
        if not (self.vacancies or self.substitutions or self.interstitials):
            raise wrong_value(
                "must name vacancies, substitutions or interstitials", "write e.g. vacancies: [Br]", "none of them"
            )
        if hasattr(self.sample, "systems"):
            raise wrong_value("must keep the atoms of the crystal", "one defect per supercell", key=("sample",))
        return self

    def systems(self, host: System) -> tuple[System, ...]:
        """Return one system per defect of a crystal, and the crystal itself where it is sampled as well.

        Raises:
            InputError: the crystal lacks an element, or a void that is large enough.
        """
        from activeph.systems.defects import interstitials, substitutions, vacancies

        found = [host] if self.host else []
        for symbol in self.vacancies:
            found += vacancies(host, symbol)
        for symbol, others in self.substitutions.items():
            for by in (others,) if isinstance(others, str) else others:
                found += substitutions(host, symbol, by)
        for symbol in self.interstitials:
            found += interstitials(host, symbol, self.void)
        return tuple(found)

    def pool(self, system: System, n: int, seed: int) -> Pool:
        """Return ``n`` candidates of one of :meth:`systems`.

        Raises:
            InputError: a crystal without defect that is not to be sampled, or what `sample` refuses.
        """
        if not system.host and not self.host:
            raise InputError(
                f"defects must be asked for the pools of its own systems but got the crystal {system.name!r}; "
                "set `host: true` to sample it as well"
            )
        return informed(self.sample, self.temperatures).pool(system, n, seed)
