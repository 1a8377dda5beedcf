"""The seam between the loop and everything that proposes configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from activeph.records import Block, Candidate, System


class Pool(Protocol):
    """Candidates computed when asked for, never stored: a pure function of (system, sampler, seed, index)."""

    @property
    def size(self) -> int:
        """Number of candidates."""
        ...

    def block(self, start: int, stop: int) -> Block:
        """Return candidates start..stop-1. Candidate i is the same whatever block it is asked for in."""
        ...

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return a name for each candidate that no other candidate has (same name = same configuration)."""
        ...


class Sampler(Protocol):
    """Proposes configurations of one system. Implementations are :class:`activeph.section.Section` classes."""

    kind: str

    def pool(self, system: System, n: int, seed: int) -> Pool:
        """Return a pool of ``n`` candidates (a finite source may give fewer). Raises InputError where it cannot."""
        ...


def pick(pool: Pool, indices: Sequence[int]) -> list[Candidate]:
    """Return the chosen candidates of a pool as records, in the order of ``indices``."""
    candidates = []
    for identifier, index in zip(pool.ids(indices), indices, strict=True):
        block = pool.block(index, index + 1)
        candidates.append(Candidate(identifier, block.system, float(block.temperatures[0]), block.configuration(0)))
    return candidates
