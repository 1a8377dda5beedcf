"""Several samplers at once, each with its share: pools broader than any one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from activeph.errors import InputError
from activeph.records import Block, IntArray, System
from activeph.role import Role
from activeph.sample.base import Pool, Sampler, informed, refused_share
from activeph.sample.phonon import Kelvin
from activeph.section import Section, wrong_value
from activeph.seeds import derive_seed

_GOLDEN = (np.sqrt(5) - 1) / 2


class Part(Section):
    """One sampler of a mixture."""

    sample: Annotated[Sampler, Role("samplers")]
    """Sampler of any kind but `defects`, which may hold a mixture instead."""
    weight: float = Field(1.0, gt=0)
    """Share of the candidates, relative to the other parts."""

    @field_validator("sample")
    @classmethod
    def _keeps_the_atoms(cls, sample: Any) -> Any:
        if hasattr(sample, "systems"):
            raise wrong_value(
                "must keep the atoms of the crystal", f"put the mixture inside {sample.kind}, under its key 'sample'"
            )
        return sample


class MixtureSampler(Section):
    """Candidates of several samplers, interleaved in fixed proportions."""

    kind: Literal["mixture"] = "mixture"
    parts: tuple[Part, ...] = Field(strict=False, min_length=1)
    """Samplers and their weights."""
    temperatures: tuple[Kelvin, ...] | None = Field(None, strict=False, min_length=1)
    """Temperatures in K of all parts that name none; null: those of the campaign."""

    def pool(self, system: System, n: int, seed: int) -> MixturePool:
        """Return ``n`` candidates.

        Raises:
            InputError: a part cannot sample the system, or is a file with too few structures for its share.
        """
        weights = np.array([part.weight for part in self.parts])
        edges = np.cumsum(weights)[:-1] / weights.sum()
        # A golden-ratio sequence puts every part evenly among the candidates, whatever n.
        owners = np.searchsorted(edges, (np.arange(1, n + 1) * _GOLDEN) % 1.0, side="right").astype(np.int16)
        counts = np.bincount(owners, minlength=len(self.parts))
        pools = []
        for index, part in enumerate(self.parts):
            own_seed = derive_seed("mixture", seed, index) if len(self.parts) > 1 else seed
            pool = informed(part.sample, self.temperatures).pool(system, int(counts[index]), own_seed)
            if pool.size < counts[index]:
                raise InputError(
                    f"mixture must find {counts[index]} structures for its part {index + 1} ({part.sample.kind}) but "
                    f"got {pool.size}; lower its weight or the size of the pool"
                )
            pools.append(pool)
        return MixturePool(system, tuple(pools), owners)


@dataclass(frozen=True, eq=False)
class MixturePool:
    """Candidate i is the next candidate of the part that owns i."""

    system: System
    pools: tuple[Pool, ...]
    owners: Any  # [n] index of the part of each candidate

    def __post_init__(self) -> None:
        ranks = np.empty(len(self.owners), dtype=np.int64)
        for index in range(len(self.pools)):
            own = self.owners == index
            ranks[own] = np.arange(np.count_nonzero(own))
        object.__setattr__(self, "_ranks", ranks)

    @property
    def size(self) -> int:
        """Number of candidates."""
        return len(self.owners)

    def block(self, start: int, stop: int) -> Block:
        """Return candidates start..stop-1; the parts' own blocks are consecutive too."""
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"block must lie in 0..{self.size} but got {start}..{stop}")
        n_atoms = len(self.system.supercell.numbers)
        positions = np.empty((stop - start, n_atoms, 3))
        cells = np.empty((stop - start, 3, 3))
        species = np.empty((stop - start, n_atoms), dtype=np.int64)
        temperatures = np.empty(stop - start)
        owners, ranks = self.owners[start:stop], self._own_ranks()[start:stop]
        for index, pool in enumerate(self.pools):
            rows = np.flatnonzero(owners == index)
            if len(rows):
                part = pool.block(int(ranks[rows[0]]), int(ranks[rows[-1]]) + 1)
                positions[rows], cells[rows], species[rows] = part.positions, part.cells, part.species
                temperatures[rows] = part.temperatures
        return Block(self.system.name, species, positions, cells, temperatures)

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the names that the parts give their candidates."""
        ranks = self._own_ranks()
        return [self.pools[self.owners[index]].ids([int(ranks[index])])[0] for index in indices]

    def refused_share(self) -> float | None:
        """Return the share of draws that the guards of all parts refuse, None where no part knows."""
        known = [(pool.size, share) for pool in self.pools if (share := refused_share(pool)) is not None]
        if not known:
            return None
        sizes, shares = np.array(known).T
        drawn = sizes / (1 - shares)  # a part that refuses much is drawn from more often
        return float(np.sum(drawn * shares) / np.sum(drawn))

    def _own_ranks(self) -> IntArray:
        ranks: IntArray = self._ranks  # type: ignore[attr-defined]
        return ranks
