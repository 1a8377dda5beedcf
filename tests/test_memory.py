"""A pool is streamed: a round keeps scores and sketched features of its candidates, never their configurations."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from activeph.config import Arm, Campaign, SystemSection
from activeph.kinds import load_kind
from activeph.progress import NoProgress
from activeph.proposal import Request, select
from activeph.records import Block, Configuration, Prediction, System
from activeph.state import Step

MEMBERS, TARGETS, FEATURES, N_ATOMS = 2, 1, 8, 64
POSITIONS = 24 * N_ATOMS  # bytes of one configuration
KEPT = 8 * MEMBERS * TARGETS + 4 * FEATURES + 6  # bytes of one candidate's scores, features, system and temperature


@dataclass(frozen=True)
class Cheap:
    """A model without memory: what a round keeps beside its scores is the round's own."""

    members: int = MEMBERS

    def load(self, states: Sequence[bytes], systems: Mapping[str, System]) -> Cheap:
        return self

    def predict(self, block: Block) -> Prediction:
        features = block.positions.reshape(len(block), -1)[:, :FEATURES]
        members = np.stack([features[:, :TARGETS] * factor for factor in range(1, MEMBERS + 1)])
        return Prediction(members, features, np.ones(TARGETS))


def crystal() -> System:
    unit = bulk("Al", "fcc", a=4.05, cubic=True)
    unit_cell, cell = (
        Configuration(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell))
        for atoms in (unit, unit * (2, 2, 4))
    )
    masses = np.full(N_ATOMS, 27.0)
    return System("Al", unit_cell, cell, np.diag([2, 2, 4]), np.eye(3), masses, np.arange(4) * 16)


def peak_bytes(pool: int, selector: str) -> int:
    """Return the largest amount of memory that a round over a pool holds."""
    system = crystal()
    sampler = load_kind("samplers", "random")(distribution="uniform", distance=0.1)
    fields: dict[str, Any] = {"seed": 0, "targets": ("energy_per_atom",), "pool": pool, "model": Cheap()}
    fields["arms"] = {"active": Arm(sample=sampler, select=load_kind("selectors", selector)())}
    fields["systems"] = (SystemSection.model_construct(name="Al"),)
    campaign = Campaign.model_construct(**fields)
    labelled = sampler.pool(system, 20, 1).block(0, 20)
    taken = frozenset({("Al", "of another round")})
    request = Request(Step("active", 0, 1), 10, taken, (Path("/dev/null"),), (labelled,))
    with load_kind("executors", "serial")().start() as workers:
        tracemalloc.start()
        try:
            chosen, _ = select(campaign, {"Al": system}, [request], workers, NoProgress())[request.step]
            assert len(chosen) == 10
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("selector", ["lcmd", "quota"])
def test_memory_of_a_round_grows_by_scores_alone(selector: str) -> None:
    """Configurations of this crystal need twenty-eight times what is kept; two more copies of that may be."""
    peak_bytes(1000, selector)  # imports
    small, large = peak_bytes(4000, selector), peak_bytes(16_000, selector)
    grown = (large - small) / 12_000
    assert grown < 3 * KEPT < POSITIONS / 8
