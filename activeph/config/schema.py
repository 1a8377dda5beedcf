"""The keys of a campaign file, their defaults, and the checks that need no other file.

Field docstrings are what ``activeph schema`` and error sentences show; defaults are those a physicist would choose.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from activeph.config.budget import Budget
from activeph.config.fields import (
    Count,
    ForceConstants,
    Name,
    Supercell,
    TargetWord,
    Temperatures,
    folder_word,
)
from activeph.config.learnable import refuse_idle, refuse_other_atoms, refuse_unlearnable
from activeph.config.quasi_harmonic import QuasiHarmonicSection
from activeph.config.renormalise import RenormaliseSection, refuse_other_statistics, refuse_untrainable
from activeph.config.shares import suited
from activeph.execute.base import Executor
from activeph.label.base import Labeler
from activeph.models.base import Model
from activeph.models.learner import learner
from activeph.records import System
from activeph.role import Role
from activeph.sample.base import Sampler
from activeph.section import InputPath, OutputPath, Section, wrong_value
from activeph.select.base import Known, Selector
from activeph.targets import spell_out


class SystemSection(Section):
    """One crystal: its structure, the supercell that is labelled, and its force constants."""

    structure: InputPath
    """File with the unit cell at equilibrium, in any format that ASE reads (CIF, POSCAR, extended XYZ, ...)."""
    name: Name
    """Name of the system in tables and folders; default: the structure's file name without its ending."""
    supercell: Supercell = ((2, 0, 0), (0, 2, 0), (0, 0, 2))
    """Repetitions of the unit cell such as [2, 2, 2], or a 3x3 integer matrix in phonopy's convention."""
    force_constants: ForceConstants = "from-labeler"
    """File with force constants (phonopy_params.yaml, FORCE_SETS, FORCE_CONSTANTS, force_constants.hdf5), or
    from-labeler: finite displacements labelled like everything else. The last three kinds of file are of this supercell
    and in eV and Å unless the phonopy.yaml (or phonopy_disp.yaml) of their calculation lies beside them."""
    displacement: float = Field(default=0.02, gt=0, le=0.3)
    """Finite displacement for from-labeler, in Å."""
    masses: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Masses in amu by element where they are not the natural ones, such as {H: 2.014}."""
    renormalise: RenormaliseSection = RenormaliseSection()
    """How force constants are renormalised where a sampler has `imaginary: renormalise`."""
    quasi_harmonic: QuasiHarmonicSection = QuasiHarmonicSection()
    """How the cell at each temperature is found where a sampler has `expansion: quasi-harmonic`."""

    @model_validator(mode="before")
    @classmethod
    def _named_by_structure(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"structure": values}
        if isinstance(values, dict) and "name" not in values and isinstance(values.get("structure"), str):
            return {**values, "name": folder_word(Path(os.path.basename(values["structure"])).stem)}
        return values

    def system(self, force_constants: Path | None = None) -> System:
        """Return the crystal, with force constants of a phonopy file where one is given.

        Raises:
            InputError: what :func:`activeph.systems.load.load_system` refuses.
        """
        from activeph.systems.load import load_system

        return load_system(self.name, self.structure, self.supercell, force_constants, self.masses)


class Arm(Section):
    """One way to spend the budget: what proposes configurations and what chooses among them."""

    sample: Annotated[Sampler, Role("samplers")]
    """Sampler that proposes the candidates."""
    select: Annotated[Selector, Role("selectors")]
    """Selector that chooses the batch among the candidates."""


class TestSection(Section):
    """The frozen test set: drawn and labelled once, shared by all arms, never trained on."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    sample: Annotated[Sampler, Role("samplers", default="phonon")] = Field(default={}, validate_default=True)  # type: ignore[assignment]
    """Sampler that proposes the test configurations."""
    temperatures: Temperatures | None = None
    """Temperatures of the test configurations in K; default: those of the campaign."""
    n: int = Field(default=100, ge=2, le=1_000_000)
    """Number of test configurations."""


def _default_arms() -> Any:
    return {
        "active-phonon": {"sample": "phonon", "select": "lcmd"},
        "random": {"sample": "random", "select": "random"},
    }


class Campaign(Section):
    """A whole campaign file."""

    name: Name
    """Name of the campaign and of its run directory; default: the file's name without its ending."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every random number, except of draws for renormalised phonons: campaigns may share their labels."""
    systems: Annotated[tuple[SystemSection, ...], Field(strict=False, min_length=1)]
    """Crystals of the campaign: structure files, or mappings with at least the key structure."""
    targets: Annotated[tuple[TargetWord, ...], Field(strict=False, min_length=1)] = (
        "band_gap",
        "valence_band_maximum",
        "energy_per_atom",
        "hydrostatic_stress",
    )
    """Properties that the model learns; stress stands for its six components."""
    temperatures: Temperatures = (150, 300, 450, 600)
    """Temperatures of the configurations in K."""
    arms: Annotated[dict[Name, Arm], Field(min_length=1)] = Field(default_factory=_default_arms, validate_default=True)
    """Arms by name, each with a sampler and a selector."""
    baseline: str = Field(default="", validate_default=True)
    """Arm that the others are measured against; default: random, else the only one selecting at random."""
    pool: Count = 2000
    """Number of candidates in the pool of each round."""
    label: Annotated[Labeler, Role("labelers")]
    """Labeler: the electronic-structure code and its settings."""
    low_fidelity: Annotated[Labeler, Role("labelers")] | None = None
    """A cheap labeler, such as {kind: xtb, method: GFN1-xTB}: band gap and band edges are learned as corrections to its
    values, which cost a calculation of its own per label, and per structure predicted. Candidates cost none."""
    model: Annotated[Model, Role("models", default="modes-gnn")] = Field(default={}, validate_default=True)  # type: ignore[assignment]
    """Model that learns the targets."""
    budget: Budget = Field(default=Budget(), validate_default=True)
    """Labels to spend, and core-hours."""
    ledger: OutputPath | None = None
    """Folder of labels that several campaigns share, so that none pays twice; default: one of its own."""
    test: TestSection = Field(default_factory=dict, validate_default=True)  # type: ignore[arg-type]
    """The frozen test set."""
    execute: Annotated[Executor, Role("executors", default="processes")] = Field(default={}, validate_default=True)  # type: ignore[assignment]
    """Executor: where labels are computed and models trained."""

    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The file it was read from, so that later complaints can name the line."""
        return self._source

    @property
    def learner(self) -> Model:
        """The model, on top of a cheap code where there is one, and with the stress tensor beside it if wanted."""
        return learner(self.model, self.targets, self.low_fidelity is not None)

    def read_from(self, source: Path) -> Campaign:
        """Return the same campaign that remembers its file."""
        campaign = self.model_copy()
        campaign._source = source
        return campaign

    @field_validator("systems")
    @classmethod
    def _systems_differ_by_name(cls, systems: tuple[SystemSection, ...]) -> tuple[SystemSection, ...]:
        _refuse_repeats([system.name for system in systems], "have different names", "name each system with 'name:'")
        return systems

    @field_validator("targets")
    @classmethod
    def _targets_differ(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        targets = spell_out(words)
        _refuse_repeats(list(targets), "name each target once", "remove the repeated one")
        return targets

    @field_validator("arms")
    @classmethod
    def _arms_know_temperatures(cls, arms: dict[str, Arm], info: ValidationInfo) -> dict[str, Arm]:
        temperatures = info.data.get("temperatures")
        return {name: arm.model_copy(update={"sample": _at(arm.sample, temperatures)}) for name, arm in arms.items()}

    @field_validator("test")
    @classmethod
    def _test_knows_temperatures(cls, test: TestSection, info: ValidationInfo) -> TestSection:
        temperatures = test.temperatures or info.data.get("temperatures")
        return test.model_copy(update={"sample": _at(test.sample, temperatures)})

    @field_validator("baseline")
    @classmethod
    def _baseline_is_an_arm(cls, baseline: str, info: ValidationInfo) -> str:
        arms: dict[str, Arm] = info.data.get("arms", {})
        if baseline in arms or not arms:
            return baseline
        at_random = [name for name, arm in arms.items() if arm.select.kind == "random"]
        if not baseline and ("random" in arms or len(at_random) == 1):
            return "random" if "random" in arms else at_random[0]
        close = difflib.get_close_matches(baseline, arms, n=1)
        raise wrong_value(
            f"must be one of the arms ({', '.join(arms)})",
            f"did you mean {close[0]!r}?" if close else "name the arm that the others are measured against",
            None if baseline else "none and no arm that selects at random",
        )

    @field_validator("execute")
    @classmethod
    def _labels_get_their_cores(cls, execute: Executor, info: ValidationInfo) -> Executor:
        return suited(execute, info.data.get("label"))

    @field_validator("budget")
    @classmethod
    def _budget_suits_campaign(cls, budget: Budget, info: ValidationInfo) -> Budget:
        unknown = sorted(set(budget.target_error) - set(info.data.get("targets", budget.target_error)))
        if unknown:
            raise wrong_value(
                "must have target_error for targets of the campaign only",
                "add it to targets or remove it here",
                repr(unknown[0]),
            )
        return budget

    @model_validator(mode="after")
    def _pools_hold_a_batch(self) -> Campaign:
        key = max(("initial", "batch"), key=lambda name: int(getattr(self.budget, name)))
        most = int(getattr(self.budget, key))
        if most > self.pool and "pool" in self.model_fields_set:
            expected = f"must be at least {most} (budget.{key})"
            raise wrong_value(expected, f"raise it or lower budget.{key}", str(self.pool), ("pool",))
        if most > self.pool:
            expected = f"must be at most {self.pool} (pool)"
            raise wrong_value(expected, f"lower it or raise pool with 'pool: {most}'", str(most), ("budget", key))
        return self

    @model_validator(mode="after")
    def _parts_suit_each_other(self) -> Campaign:
        refuse_unlearnable(self.targets, self.model)
        refuse_idle(self.low_fidelity, self.targets)
        samplers = {f"arms.{name}.sample": arm.sample for name, arm in self.arms.items()}
        samplers |= {"test.sample": self.test.sample}
        refuse_other_atoms(samplers, self.model)
        renormalised = [system.renormalise for system in self.systems]
        refuse_other_statistics(samplers, renormalised)
        refuse_untrainable(samplers, renormalised, self.label)
        return self

    @model_validator(mode="after")
    def _spreads_come_from_members(self) -> Campaign:
        for name, arm in self.arms.items():
            n_members = getattr(self.model, "opinions", self.model.members)
            if getattr(arm.select, "needs_spread", False) and n_members < 2:
                raise wrong_value(
                    f"must be at least 2 for the selector {arm.select.kind} of arms.{name}, which takes their spread",
                    "raise it or choose another selector",
                    str(self.model.members),
                    ("model", "members"),
                )
        return self

    @model_validator(mode="after")
    def _selectors_know_names(self) -> Campaign:
        for name, arm in self.arms.items():
            check = getattr(arm.select, "check", None)
            if check is None:
                continue
            temperatures = () if hasattr(arm.sample, "parts") else getattr(arm.sample, "temperatures", None) or ()
            try:
                check(Known(tuple(system.name for system in self.systems), self.targets, temperatures))
            except PydanticCustomError as error:
                context = dict(error.context or {})
                context["key"] = ("arms", name, "select", *context["key"])
                raise PydanticCustomError("activeph", "{expected}; {remedy}", context) from None
        return self


def _refuse_repeats(names: list[str], rule: str, remedy: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise wrong_value(f"must {rule}", remedy, f"{name!r} twice")


def _at(sampler: Any, temperatures: tuple[float, ...] | None) -> Any:
    """Return a sampler that was given no temperatures with those of the campaign."""
    if "temperatures" in type(sampler).model_fields and sampler.temperatures is None:
        return sampler.model_copy(update={"temperatures": temperatures})
    return sampler
