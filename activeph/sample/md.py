"""Snapshots of molecular dynamics: all anharmonicity that a force field knows, at its price."""

from __future__ import annotations

import importlib
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.records import Block, FloatArray, System
from activeph.sample.drawn import pool_name
from activeph.sample.guards import Guard
from activeph.sample.phonon import Kelvin
from activeph.section import Section
from activeph.seeds import generator

GPA = 1 / 160.21766208  # eV/Å³
_LOST = 10.0  # Å from its site, beyond any solid: the atom flew away
_ATTEMPTS = 20  # intervals without an accepted snapshot before a trajectory is called broken


class MdSampler(Section):
    """Langevin dynamics with any ASE calculator, at constant volume or constant pressure.

    The pool is cut into independent short trajectories, so that a candidate depends on seed and index alone; every
    round and every repeat has trajectories of its own.
    """

    kind: Literal["md"] = "md"
    calculator: str = Field(pattern=r"^[\w.]+:\w+$")
    """What gives the forces, as module:Class, such as ``mace.calculators:MACECalculator``."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the calculator."""
    temperatures: tuple[Kelvin, ...] | None = Field(None, strict=False, min_length=1)
    """Temperatures in K, one trajectory each in turn; null: those of the campaign."""
    ensemble: Literal["nvt", "npt"] = "nvt"
    """Constant volume, or constant `pressure` with a cell free to change in size and shape."""
    pressure: float = 0.0
    """GPa, for `npt`."""
    timestep: float = Field(2.0, gt=0, le=10)
    """fs; 0.5 to 1 with hydrogen."""
    damping: float = Field(100.0, gt=0)
    """fs, time in which the heat bath takes a velocity."""
    equilibration: float = Field(2000.0, ge=0)
    """fs before the first snapshot of a trajectory."""
    interval: float = Field(500.0, gt=0)
    """fs between snapshots, long enough to decorrelate them; `activeph phonons --dynamics` measures whether it is."""
    snapshots: int = Field(10, ge=1)
    """Snapshots per trajectory."""
    minimum_distance: float | None = Field(None, ge=0)
    """A snapshot with two atoms closer than this (Å) is passed over; null: half the sum of covalent radii."""
    largest_displacement: float | None = Field(None, gt=0)
    """A snapshot with an atom farther than this (Å) from its site is passed over; null: no limit."""

    def pool(self, system: System, n: int, seed: int) -> MdPool:
        """Return ``n`` candidates; trajectories run when their candidates are asked for, and are kept.

        Raises:
            InputError: no temperatures, or a calculator that cannot be made.
        """
        if self.temperatures is None:
            raise InputError("sampler must know temperatures but got none; set `temperatures` in K, e.g. [300]")
        return MdPool(pool_name(self.kind, self, system), system, n, seed, np.array(self.temperatures), self)

    def made_calculator(self) -> Any:
        """Return the ASE calculator."""
        module, _, name = self.calculator.partition(":")
        try:
            maker = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"sample.calculator must be the import path of an ASE calculator but got {self.calculator!r} "
                f"({error}); write it as module:Class and install its package"
            ) from error
        try:
            return maker(**self.arguments)
        except Exception as error:
            raise InputError(
                f"sample.arguments must suit {self.calculator} but got {type(error).__name__}: {error}; correct them"
            ) from error


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The snapshots of one run."""

    positions: FloatArray  # [s, N, 3] Å
    cells: FloatArray  # [s, 3, 3] Å
    refused: int  # snapshots that the guards passed over

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self.positions.nbytes + self.cells.nbytes


_MEMORY = 2**28  # bytes of trajectories that a process keeps
_KEPT: OrderedDict[tuple[str, int, int], Trajectory] = OrderedDict()
"""Trajectories by pool, seed and number, least used first: a round asks the pools of a step for their candidates
several times, and dynamics are the only ones that are slow to repeat."""


@dataclass(frozen=True, eq=False)
class MdPool:
    """Candidate i is snapshot i mod s of trajectory i // s."""

    name: str
    system: System
    size: int
    seed: int
    temperatures: FloatArray  # [T] K
    settings: MdSampler

    def block(self, start: int, stop: int) -> Block:
        """Return candidates start..stop-1."""
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"block must lie in 0..{self.size} but got {start}..{stop}")
        per = self.settings.snapshots
        positions = np.empty((stop - start, *self.system.supercell.positions.shape))
        cells = np.empty((stop - start, 3, 3))
        temperatures = np.empty(stop - start)
        for row, index in enumerate(range(start, stop)):
            trajectory = self._trajectory(index // per)
            positions[row], cells[row] = trajectory.positions[index % per], trajectory.cells[index % per]
            temperatures[row] = self.temperatures[index // per % len(self.temperatures)]
        species = np.broadcast_to(self.system.supercell.numbers, positions.shape[:2])
        return Block(self.system.name, species, positions, cells, temperatures)

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the candidates' names: sampler and system by content, seed and index."""
        return [f"{self.name}-{self.seed}-{index}" for index in indices]

    def refused_share(self) -> float | None:
        """Return the share of snapshots passed over in the trajectories run so far, None where none has been run."""
        if not self._known:
            return None
        refused = sum(trajectory.refused for trajectory in self._known.values())
        return refused / (refused + len(self._known) * self.settings.snapshots)

    def correlation(self) -> float | None:
        """Return the correlation of displacements between one snapshot and the next, over the trajectories run so far.

        0 for independent snapshots, 1 for equal ones; None where no trajectory of two snapshots has been run. Taken
        about the sites, so it is not biased by the few snapshots of a trajectory.
        """
        if not self._known or self.settings.snapshots < 2:
            return None
        product = squares = 0.0
        for trajectory in self._known.values():
            strains = np.linalg.inv(self.system.supercell.cell) @ trajectory.cells
            u = trajectory.positions - self.system.supercell.positions @ strains
            product += float(np.sum(u[1:] * u[:-1]))
            squares += float(np.sum(u[1:] ** 2) + np.sum(u[:-1] ** 2)) / 2
        return product / squares

    @cached_property
    def _known(self) -> dict[int, Trajectory]:
        return {}

    @cached_property
    def _calculator(self) -> Any:
        return self.settings.made_calculator()

    @cached_property
    def _guard(self) -> Guard:
        return Guard(self.system, self.settings.minimum_distance, self.settings.largest_displacement)

    def _trajectory(self, number: int) -> Trajectory:
        """Return a trajectory, run now or, by whatever pool of the same name and seed, before in this process."""
        if number not in self._known:
            key = (self.name, self.seed, number)
            if key not in _KEPT:
                _KEPT[key] = self._run(number)
            _KEPT.move_to_end(key)
            while len(_KEPT) > 1 and sum(one.nbytes for one in _KEPT.values()) > _MEMORY:
                _KEPT.popitem(last=False)
            self._known[number] = _KEPT[key]
        return self._known[number]

    def _run(self, number: int) -> Trajectory:
        """Run the dynamics of a trajectory."""
        settings = self.settings
        dynamics, atoms = self._dynamics(number)
        dynamics.run(round(settings.equilibration / settings.timestep))
        positions: list[FloatArray] = []
        cells: list[FloatArray] = []
        refused = row = 0
        while len(positions) < settings.snapshots:
            dynamics.run(max(1, round(settings.interval / settings.timestep)))
            displacements, strain = self._displacements(atoms)
            if self._accepts(displacements, strain):
                positions.append(self.system.supercell.positions @ (np.eye(3) + strain) + displacements)
                cells.append(atoms.cell.array.copy())
                row = 0
                continue
            refused, row = refused + 1, row + 1
            if row == _ATTEMPTS or not np.isfinite(displacements).all():
                raise InputError(
                    f"md must keep the crystal together but got atoms too close or too far in trajectory {number} of "
                    f"{self.system.name!r} at {self._temperature(number):g} K; shorten timestep, lower temperatures, "
                    "or take a better force field"
                )
        return Trajectory(np.array(positions), np.array(cells), refused)

    def _dynamics(self, number: int) -> tuple[Any, Any]:
        import ase
        from ase import units
        from ase.md.langevinbaoab import LangevinBAOAB

        cell, settings = self.system.supercell, self.settings
        rng = generator("md", self.seed, number)
        atoms = ase.Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True, masses=self.system.masses)
        atoms.calc = self._calculator
        temperature = self._temperature(number)
        spread = np.sqrt(self.system.masses * units.kB * temperature)[:, None]
        atoms.set_momenta(spread * rng.standard_normal(atoms.positions.shape))
        pressure = {"externalstress": -settings.pressure * GPA} if settings.ensemble == "npt" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE announces the mass it gives the cell
            dynamics = LangevinBAOAB(
                atoms,
                settings.timestep * units.fs,
                temperature_K=temperature,
                T_tau=settings.damping * units.fs,
                P_tau=10 * settings.damping * units.fs,
                rng=rng,
                **pressure,
            )
        return dynamics, atoms

    def _temperature(self, number: int) -> float:
        return float(self.temperatures[number % len(self.temperatures)])

    def _displacements(self, atoms: Any) -> tuple[FloatArray, FloatArray]:
        """Return displacements [N, 3] from the strained sites, centre of mass at rest, and the strain [3, 3]."""
        origin = self.system.supercell
        strain = np.linalg.inv(origin.cell) @ atoms.cell.array - np.eye(3)
        displacements = atoms.positions - origin.positions @ (np.eye(3) + strain)
        return displacements - self.system.masses @ displacements / self.system.masses.sum(), strain

    def _accepts(self, displacements: FloatArray, strain: FloatArray) -> bool:
        whole = np.isfinite(strain).all() and bool(np.all(np.abs(displacements) < _LOST))
        return bool(whole and self._guard.accepts(displacements[None], strain[None])[0])
