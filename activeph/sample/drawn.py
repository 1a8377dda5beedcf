"""The pool behind every sampler that displaces the atoms of a supercell at random."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from activeph.errors import InputError
from activeph.records import Block, FloatArray, IntArray, System
from activeph.sample.guards import Guard
from activeph.sample.strain import Strained
from activeph.section import Section
from activeph.seeds import derive_seed

BLOCK = 256
"""Candidates drawn together. One random stream per block makes a candidate a function of (seed, index) at the speed
of one stream; single streams per candidate cost five times the draw itself."""

_GRID, _OFFSET = 1e-5, 0.137
"""Å, amu, eV/Å². The offset keeps simple numbers away from the edges, where rounding would decide."""

_ATTEMPTS = 300  # draws per candidate before the guards are called impossible


class Draw(Protocol):
    """Fresh displacements."""

    def __call__(self, bits: np.random.SFC64, temperatures: IntArray) -> NDArray[np.floating]:
        """Return displacements [B, N, 3] in Å for indices [B] into the pool's temperatures."""
        ...


class Guarded(Strained):
    """Keys that every displacing sampler has: what it refuses, and how it strains the cell."""

    minimum_distance: float | None = Field(None, ge=0)
    """Configurations with two atoms closer than this (Å) are drawn again; null: half the sum of covalent radii."""
    largest_displacement: float | None = Field(None, gt=0)
    """Configurations with an atom farther than this (Å) from its site are drawn again; null: no limit."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """Configurations before the guards."""

    displacements: NDArray[np.floating]  # [B, N, 3] Å from the strained sites
    strains: FloatArray | None = None  # [B, 3, 3]: cell rows and sites are multiplied by 1 + strain
    species: IntArray | None = None  # [B, N], None: those of the system

    def replace(self, rows: IntArray, other: Proposal) -> None:
        """Put the configurations of another proposal into these rows."""
        self.displacements[rows] = other.displacements
        for name in ("strains", "species"):
            own, new = getattr(self, name), getattr(other, name)
            if own is not None:
                own[rows] = new


@dataclass(frozen=True, eq=False)
class DrawnPool:
    """Random displacements around the sites of a supercell, streamed."""

    name: str  # what ids start with; differs where any configuration differs
    system: System
    size: int
    seed: int
    temperatures: FloatArray  # [T] K, NaN where the displacements know none; candidate i has temperature i mod T
    draw: Draw
    settings: Guarded

    def block(self, start: int, stop: int) -> Block:
        """Return candidates start..stop-1; see :class:`activeph.sample.base.Pool`."""
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"block must lie in 0..{self.size} but got {start}..{stop}")
        site, cell = self.system.supercell.positions, self.system.supercell.cell
        positions = np.empty((stop - start, *site.shape))
        cells = np.broadcast_to(cell, (stop - start, 3, 3))
        species = np.broadcast_to(self.system.supercell.numbers, positions.shape[:2])
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            found, _ = self._accepted(number)
            low, high = max(start, number * BLOCK), min(stop, (number + 1) * BLOCK)
            here, there = slice(low - number * BLOCK, high - number * BLOCK), slice(low - start, high - start)
            np.add(found.displacements[here], site, out=positions[there])
            if found.strains is not None:
                cells = cells if cells.flags.writeable else cells.copy()
                positions[there] += site @ found.strains[here]
                cells[there] = cell + cell @ found.strains[here]
            if found.species is not None:
                species = species if species.flags.writeable else species.copy()
                species[there] = found.species[here]
        temperatures = self.temperatures[np.arange(start, stop) % len(self.temperatures)]
        return Block(self.system.name, species, positions, cells, temperatures)

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the candidates' names: sampler and system by content, seed and index."""
        return [f"{self.name}-{self.seed}-{index}" for index in indices]

    def refused_share(self) -> float:
        """Return the share of draws that the guards refuse, measured on the first thousand candidates."""
        counts = [self._accepted(number)[1] for number in range(min(4, -(-self.size // BLOCK)))]
        return sum(counts) / (sum(counts) + BLOCK * len(counts)) if counts else 0.0

    def _propose(self, bits: np.random.SFC64, turn: IntArray, species: IntArray | None) -> Proposal:
        """Return fresh configurations for indices [B] into the temperatures; ``species`` of a refused draw stay."""
        displacements = self._shifted(self.draw(bits, turn), turn)
        return Proposal(displacements, self.settings.strains(bits, self.temperatures[turn], self.system))

    def _shifted(self, displacements: NDArray[np.floating], turn: IntArray) -> NDArray[np.floating]:
        """Return displacements [B, N, 3] from the strained sites: atoms may rest elsewhere in a thermal cell."""
        shifts = self.settings.shifts(self.temperatures[turn], self.system)
        return displacements if shifts is None else displacements + shifts.astype(displacements.dtype)

    def _accepted(self, number: int) -> tuple[Proposal, int]:
        """Return the configurations of a whole block, and how many draws were refused on the way."""
        turn = (number * BLOCK + np.arange(BLOCK)) % len(self.temperatures)
        # the kind of sampler, not its name: a last digit of the force constants must not change the stream
        bits = np.random.SFC64(derive_seed(type(self.settings).__name__, self.seed, number))
        found = self._propose(bits, turn, None)
        wrong = np.flatnonzero(~self._guard.accepts(found.displacements, found.strains))
        refused = 0
        for _ in range(_ATTEMPTS):
            if len(wrong) == 0:
                return found, refused
            refused += len(wrong)
            again = self._propose(bits, turn[wrong], None if found.species is None else found.species[wrong])
            found.replace(wrong, again)
            wrong = wrong[~self._guard.accepts(again.displacements, again.strains)]
        raise InputError(
            f"sampler must find configurations that its guards accept but got {_ATTEMPTS} refusals in a row for "
            f"system {self.system.name!r} (minimum_distance {self.settings.minimum_distance}, largest_displacement "
            f"{self.settings.largest_displacement}); lower the amplitude or temperature, or loosen the guards"
        )

    @cached_property
    def _guard(self) -> Guard:
        return Guard(self.system, self.settings.minimum_distance, self.settings.largest_displacement)


def pool_name(kind: str, section: Section, *systems: System) -> str:
    """Return a name that changes with the sampler's settings and with anything of the systems.

    Paths are left out (what the files say is in the systems), so a campaign may move; numbers are put on a grid, so
    another processor's rounding names the same.
    """
    settings = {key: value for key, value in section.model_dump().items() if not isinstance(value, Path)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for system in systems:
        for array in _arrays(system):
            digest.update(str(array.shape).encode())
            digest.update(np.floor(array / _GRID + _OFFSET).astype("<i8").tobytes())
    return f"{systems[0].name}-{kind}-{digest.hexdigest()[:12]}"


def _arrays(system: System) -> list[NDArray[Any]]:
    cell = system.supercell
    constants = [] if system.force_constants is None else [system.force_constants]
    for temperature in sorted(system.effective_force_constants):
        constants += [np.array(temperature), system.effective_force_constants[temperature]]
    for temperature, warm in sorted(system.thermal_cells.items()):
        constants += [np.array(temperature), warm.strain, warm.force_constants]
        constants += [] if warm.shift is None else [warm.shift]
    return [cell.numbers, cell.positions, cell.cell, system.masses, *constants]
