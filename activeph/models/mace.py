"""Committees of MACE potentials: energy, forces and stress from one equivariant network.

I. Batatia et al., NeurIPS 2022, arXiv:2206.07697; trained with mace-torch's own modules, so that a trained member is a
model file like any other (``activeph export --format mace``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from activeph.models.base import Device
from activeph.models.mace_targets import potential_targets
from activeph.records import Configuration, Dataset, System
from activeph.section import InputPath, Section, wrong_value

if TYPE_CHECKING:
    from pathlib import Path

    from activeph.models.mace_predictor import MacePredictor

ARCHITECTURE = ("cutoff", "channels", "vectors", "angular", "correlation", "layers", "radial")


class MaceModel(Section):
    """Learns energies, forces and stresses together, and so the targets that follow from them; no band gap.

    Trained from scratch, or fine-tuned from a foundation model where its file is given.
    """

    kind: Literal["mace"] = "mace"
    members: int = Field(3, ge=1)
    """Models of the committee; their spread is the uncertainty."""
    foundation: InputPath | None = None
    """File of a MACE model to start from; its architecture is taken over."""
    foundation_head: str | None = None
    """Head of the foundation model to start from, where it has several; default: the one named Default."""
    replay: InputPath | None = None
    """File of structures, in any format that ASE reads, on which a second head keeps what the foundation model says
    (multi-head fine-tuning). They need no labels: the foundation model gives them."""
    replay_weight: float = Field(1.0, gt=0)
    """Weight of the replayed structures in the loss, relative to the labels."""
    cutoff: float = Field(5.0, gt=0)
    """Distance in Å up to which atoms send messages."""
    channels: int = Field(16, ge=2)
    """Scalar channels per atom and layer."""
    vectors: bool = True
    """Whether the channels between layers are scalars and vectors instead of scalars alone: more accurate, slower."""
    angular: int = Field(2, ge=1, le=4)
    """Largest angular momentum of the spherical harmonics."""
    correlation: int = Field(2, ge=1, le=4)
    """Neighbours in one product: 1 gives three-body features, 2 four-body ones, and so on."""
    layers: int = Field(2, ge=1, le=4)
    """Message-passing layers."""
    radial: int = Field(8, ge=2)
    """Bessel functions of the distance."""
    steps: int = Field(300, ge=1)
    """Optimiser steps for a small dataset; larger ones get up to four times as many, so that each label is seen at
    least thirty times."""
    batch: int = Field(5, ge=1)
    """Structures per optimiser step; memory permitting they are computed together, else in parts."""
    learning_rate: float | None = Field(None, gt=0)
    """Largest step size of Adam; default: 0.01 from scratch, 0.001 from a foundation model."""
    energy_weight: float = Field(1.0, ge=0)
    """Weight of energies per atom in the loss, where errors count in standard deviations of the labels."""
    forces_weight: float = Field(10.0, ge=0)
    """Weight of forces in the loss."""
    stress_weight: float = Field(1.0, ge=0)
    """Weight of stresses in the loss; 0 for labels without stress."""
    held_out: float = Field(0.15, ge=0, lt=0.9)
    """Share of the labels that a member does not train on and that decides when it stops; differs from member to
    member."""
    score: Literal["forces", "targets"] = "forces"
    """Uncertainty of a candidate: the spread of the members' forces, or of the targets."""
    features: int = Field(64, ge=1)
    """Width of the sketched features that selectors compare."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of training and prediction; energies of atoms are kept in float64 in either case."""
    device: Device = "auto"
    """Processor to compute on; auto is a GPU where there is one."""

    learns: ClassVar[tuple[str, ...]] = potential_targets()

    @model_validator(mode="after")
    def _foundation_brings_the_architecture(self) -> Self:
        given = [name for name in ARCHITECTURE if name in self.model_fields_set]
        if self.foundation is not None and given:
            raise wrong_value(
                "must be left out beside foundation, whose architecture is taken over",
                "remove it",
                str(getattr(self, given[0])),
                (given[0],),
            )
        alone = [name for name in ("foundation_head", "replay") if getattr(self, name) is not None]
        if self.foundation is None and alone:
            raise wrong_value(
                "needs the file of a foundation model under 'foundation'",
                "add it or remove this key",
                str(getattr(self, alone[0])),
                (alone[0],),
            )
        return self

    @model_validator(mode="after")
    def _products_have_coefficients(self) -> Self:
        if self.angular == 4 and self.correlation > 2:
            raise wrong_value(
                "must be at most 2 where angular is 4: e3nn knows no coefficients of larger products",
                "lower it, or angular to 3",
                str(self.correlation),
                ("correlation",),
            )
        return self

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the foundation model cannot be used or does not know an element."""
        if self.foundation is not None:
            from activeph.models.mace_foundation import read_foundation

            read_foundation(self.foundation, self.foundation_head, configuration.numbers)

    def fit(self, dataset: Dataset, systems: Mapping[str, System], seed: int, warm: bytes | None = None) -> bytes:
        """Train one member; see :class:`activeph.models.base.Model`."""
        from activeph.models.mace_fit import fit_mace

        return fit_mace(self, dataset, systems, seed, warm)

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> MacePredictor:
        """Return the committee; see :class:`activeph.models.base.Model`."""
        from activeph.models.mace_predictor import load_mace

        return load_mace(self, states, systems)

    def learning_curve(self, state: bytes) -> Sequence[tuple[float, ...]]:
        """Return the points of a member's training; see :class:`activeph.models.base.Traced`."""
        from activeph.models.network_state import learning_curve

        return learning_curve(state)

    def export(self, states: Sequence[bytes], folder: Path) -> list[Path]:
        """Write each member as a model file that ASE's MACECalculator and MACE's converters read; return the files."""
        from activeph.models.mace_network import write_model

        return [write_model(state, folder / f"member-{member}.model") for member, state in enumerate(states)]

    def rate(self) -> float:
        """Return the largest step size."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.01 if self.foundation is None else 0.001

    def n_steps(self, n_trained: int) -> int:
        """Return the number of optimiser steps for a number of labels."""
        return min(max(self.steps, 30 * n_trained // self.batch), 4 * self.steps)

    def architecture(self) -> dict[str, Any]:
        """Return the network's architecture in the words of :mod:`activeph.models.mace_network`."""
        hidden = f"{self.channels}x0e" + (f" + {self.channels}x1o" if self.vectors and self.layers > 1 else "")
        return {
            "r_max": self.cutoff,
            "num_bessel": self.radial,
            "num_polynomial_cutoff": 5,
            "max_ell": self.angular,
            "interaction_cls": "RealAgnosticResidualInteractionBlock",
            "interaction_cls_first": "RealAgnosticInteractionBlock",
            "num_interactions": self.layers,
            "hidden_irreps": hidden,
            "MLP_irreps": "16x0e",
            "correlation": self.correlation,
            "gate": "silu",
            "radial_MLP": [32, 32, 32],
            "heads": ["Default"],
        }
