"""Solid solutions: a sublattice decorated at random at given composition, vibrating as the average crystal does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from activeph.errors import InputError
from activeph.records import FloatArray, IntArray, System
from activeph.sample.drawn import DrawnPool, Proposal, pool_name
from activeph.sample.phonon import Thermal
from activeph.section import InputPath, wrong_value

Share = Annotated[float, Field(ge=0, le=1)]


class DisorderSampler(Thermal):
    """Random decorations of the sites of one element with another, displaced along average-crystal phonons.

    With k of n sites replaced (x = k/n), cell, internal coordinates, force constants and the sublattice's mass are
    the linear interpolation (1 - x) first end + x other end (Vegard's rule; virtual crystal for the vibrations).
    """

    kind: Literal["disorder"] = "disorder"
    replace: str = Field(pattern=r"^[A-Z][a-z]?$")
    """Element whose sites are decorated, such as Br."""
    by: str = Field(pattern=r"^[A-Z][a-z]?$")
    """Element put in its place, such as I."""
    composition: Share | Annotated[tuple[Share, Share], Field(strict=False)] | None = None
    """Share x of replaced sites; or [lowest, highest], every possible number of sites between them equally often;
    null: each site replaced with probability 1/2, which gives a binomial distribution."""
    end_member: InputPath | None = None
    """Structure with all sites replaced, in the same unit cell; null: only species and masses change."""
    end_member_force_constants: InputPath | None = None
    """Its force constants (any phonopy file); null: those of the system. Where the system has force constants for each
    temperature (`renormalise`, quasi-harmonic expansion), give those that hold at the temperatures in use."""

    @property
    def brings(self) -> tuple[str, ...]:
        """Elements that candidates may have beside the crystal's own."""
        return (self.by,)

    @model_validator(mode="after")
    def _another_element(self) -> Self:
        if self.replace == self.by:
            raise wrong_value(
                "must put another element in place", "name it under 'by'", f"{self.by} for {self.replace}"
            )
        return self

    def pool(self, system: System, n: int, seed: int) -> DisorderPool:
        """Return ``n`` candidates.

        Raises:
            InputError: no such element, an end member that does not fit, a composition that the supercell cannot
                have, or what :class:`activeph.sample.phonon.PhononSampler` refuses.
        """
        from activeph.phonons.draw import HarmonicDraw
        from activeph.systems.end_member import end_member

        replaced, by = _number(self.replace), _number(self.by)
        sites = np.flatnonzero(system.supercell.numbers == replaced)
        if len(sites) == 0:
            raise InputError(
                f"replace must be an element of system {system.name!r} but got {self.replace}; see its file"
            )
        other = end_member(system, replaced, by, self.end_member, self.end_member_force_constants)
        counts = self._counts(len(sites))
        averages = [self._average(system, other, sites, count) for count in range(len(sites) + 1)]
        ensembles = [
            ensemble if count in counts else None
            for count, average in enumerate(averages)
            for ensemble in (
                self.ensembles(average) if count in counts else [None] * len(self.temperatures_or_refuse())
            )
        ]
        known = [place for place, ensemble in enumerate(ensembles) if ensemble is not None]
        draw = HarmonicDraw([ensemble for ensemble in ensembles if ensemble is not None])
        places = np.full(len(ensembles), -1)
        places[known] = np.arange(len(known))
        return DisorderPool(
            name=pool_name(self.kind, self, system, other),
            system=system,
            size=n,
            seed=seed,
            temperatures=self.temperatures_or_refuse(),
            draw=draw,
            settings=self,
            sites=sites,
            by=by,
            counts=counts,
            binomial=self.composition is None,
            averages=tuple(averages),
            places=places,
        )

    def _average(self, system: System, other: System, sites: IntArray, count: int) -> System:
        """Return the crystal between two ends with ``count`` sites replaced: cell, places, masses, force constants."""
        x = count / len(sites)
        ours, theirs = system.supercell, other.supercell
        fractions = ours.positions @ np.linalg.inv(ours.cell)
        shift = theirs.positions @ np.linalg.inv(theirs.cell) - fractions
        cell = (1 - x) * ours.cell + x * theirs.cell
        places = (fractions + x * (shift - np.rint(shift))) @ cell
        unit = dataclasses.replace(system.unit_cell, cell=(1 - x) * system.unit_cell.cell + x * other.unit_cell.cell)
        far = None if self.end_member_force_constants is None else other.force_constants

        def mean(constants: FloatArray) -> FloatArray:
            return constants if far is None else (1 - x) * constants + x * far

        effective = {T: mean(constants) for T, constants in system.effective_force_constants.items()}
        warm = {
            T: dataclasses.replace(one, force_constants=mean(one.force_constants))
            for T, one in system.thermal_cells.items()
        }
        return dataclasses.replace(
            system,
            unit_cell=unit,
            supercell=dataclasses.replace(ours, positions=places, cell=cell),
            masses=(1 - x) * system.masses + x * other.masses,
            force_constants=None if system.force_constants is None else mean(system.force_constants),
            effective_force_constants=effective,
            thermal_cells=warm,
        )

    def _counts(self, n_sites: int) -> IntArray:
        """Return the numbers of replaced sites that occur."""
        if self.composition is None:
            return np.arange(n_sites + 1)
        low, high = self.composition if isinstance(self.composition, tuple) else (self.composition, self.composition)
        if low > high:
            raise InputError(f"composition must have its lowest share first but got {self.composition}; exchange them")
        counts = np.arange(n_sites + 1)
        inside = counts[(counts >= low * n_sites - 1e-6) & (counts <= high * n_sites + 1e-6)]
        if len(inside) == 0:
            nearest = sorted({float(np.floor(low * n_sites) / n_sites), float(np.ceil(low * n_sites) / n_sites)})
            raise InputError(
                f"composition must be a number of the {n_sites} {self.replace} sites but got {self.composition}; "
                f"take {' or '.join(f'{x:g}' for x in nearest)}, or a larger supercell"
            )
        return inside


@dataclass(frozen=True, eq=False)
class DisorderPool(DrawnPool):
    """Displaced decorations."""

    sites: IntArray  # [n] atoms of the sublattice
    by: int  # atomic number put there
    counts: IntArray  # numbers of replaced sites that occur
    binomial: bool
    averages: tuple[System, ...]  # [n + 1] average crystal of each number
    places: IntArray  # ensemble of (number of replaced sites, temperature)

    def _propose(self, bits: np.random.SFC64, turn: IntArray, species: IntArray | None) -> Proposal:
        if species is None:
            species = self._decorations(np.random.Generator(bits), len(turn))
        counts = (species[:, self.sites] == self.by).sum(axis=1)
        displacements = self._shifted(self.draw(bits, self.places[counts * len(self.temperatures) + turn]), turn)
        origin = self.system.supercell
        cells = np.array([average.supercell.cell for average in self.averages])[counts]
        strains = np.linalg.inv(origin.cell) @ cells - np.eye(3)
        sites = np.array([average.supercell.positions for average in self.averages])[counts]
        shifts = sites - origin.positions @ (np.eye(3) + strains)  # internal coordinates between the ends
        more = self.settings.strains(bits, self.temperatures[turn], self.system)
        if more is not None:
            strains = (np.eye(3) + strains) @ (np.eye(3) + more) - np.eye(3)
        return Proposal(displacements + shifts, strains, species)

    def _decorations(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return species [n, N]."""
        size = len(self.sites)
        if self.binomial:
            chosen = rng.random((n, size)) < 0.5
        else:
            ranks = rng.random((n, size)).argsort(axis=1).argsort(axis=1)
            chosen = ranks < rng.choice(self.counts, n)[:, None]
        species = np.tile(self.system.supercell.numbers, (n, 1))
        species[:, self.sites] = np.where(chosen, self.by, species[:, self.sites])
        return species


def _number(symbol: str) -> int:
    from ase.data import atomic_numbers

    if symbol not in atomic_numbers:
        raise InputError(f"replace and by must be chemical symbols but got {symbol!r}; write e.g. Br")
    return int(atomic_numbers[symbol])
