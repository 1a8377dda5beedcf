"""Candidates from a file: structures somebody has made, or labelled, before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from activeph.errors import InputError
from activeph.identity import GRID_OFFSET, SAME_POSITION
from activeph.records import Block, Configuration, FloatArray, IntArray, System
from activeph.sample.guards import Guard
from activeph.section import InputPath, Section
from activeph.seeds import generator

_LARGEST_STRAIN = 0.25
"""A cell that differs more from the system's is another crystal, or another choice of lattice vectors."""


@dataclass(frozen=True, eq=False)
class FilePool:
    """The structures of a file, in its order."""

    system: str
    names: tuple[str, ...]  # one per structure, of what it is: independent of any seed and file
    species: IntArray  # [S, N] atomic numbers
    positions: FloatArray  # [S, N, 3] Å
    cells: FloatArray  # [S, 3, 3] Å
    temperatures: FloatArray  # [S] K
    refused: float  # share of the file's structures of this crystal that guards refused

    def refused_share(self) -> float:
        """Return the share of structures that guards refused."""
        return self.refused

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.positions)

    def block(self, start: int, stop: int) -> Block:
        """Return structures start..stop-1."""
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"block must lie in 0..{self.size} but got {start}..{stop}")
        part = slice(start, stop)
        return Block(self.system, self.species[part], self.positions[part], self.cells[part], self.temperatures[part])

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the structures' names, equal for equal structures whatever files they are in."""
        return [self.names[index] for index in indices]


class ReplaySampler(Section):
    """A finite pool: the structures of an extended-XYZ file or ASE database whose atoms are those of the system."""

    kind: Literal["replay"] = "replay"
    file: InputPath
    """Extended XYZ, ASE database or any other file of several structures that ASE reads."""
    temperatures: tuple[float, ...] | None = Field(None, strict=False, min_length=1)
    """Keep only structures at these temperatures (`T` or `temperature` in a structure's info, K), and those without
    one; null: all."""
    minimum_distance: float | None = Field(None, ge=0)
    """Structures with two atoms closer than this (Å) are left out; null: half the sum of covalent radii."""
    largest_displacement: float | None = Field(None, gt=0)
    """Structures with an atom farther than this (Å) from its site are left out; null: no limit."""

    def pool(self, system: System, n: int, seed: int) -> FilePool:
        """Return ``n`` structures of the file, drawn without replacement (all of them where it has no more).

        Atoms are put in the system's order and next to their sites. A structure that the file repeats is there once,
        and has the same id in every file: what one file tests, another does not train on.

        Raises:
            InputError: an unreadable file, or none of its structures has the system's atoms.
        """
        stamp = self.file.stat() if self.file.exists() else None
        frames = _read(self.file, stamp.st_mtime_ns if stamp else 0)
        guard = Guard(system, self.minimum_distance, self.largest_displacement)
        names: dict[str, None] = {}
        positions, cells, temperatures, refused = [], [], [], 0
        for frame in frames:
            placed = _placed(frame, system)
            if placed is None or not self._wanted(frame.temperature):
                continue
            if not _accepts(guard, system, placed, frame.configuration.cell):
                refused += 1
                continue
            name = _name(placed, frame.configuration.cell)
            if name in names:
                continue
            names[name] = None
            positions.append(placed)
            cells.append(frame.configuration.cell)
            temperatures.append(frame.temperature)
        if not names:
            raise InputError(
                f"file must hold structures with the atoms and cell of system {system.name!r} but got none of "
                f"{len(frames)} in {self.file} ({refused} refused by guards); check supercell and temperatures"
            )
        chosen = np.sort(generator("replay", seed).permutation(len(names))[:n])
        known = list(names)
        shape = (len(chosen), len(system.supercell.numbers))
        return FilePool(
            system.name,
            tuple(f"{system.name}-{self.kind}-{known[index]}" for index in chosen),
            np.broadcast_to(system.supercell.numbers, shape),
            np.array(positions)[chosen],
            np.array(cells)[chosen],
            np.array(temperatures)[chosen],
            refused / (refused + len(names)),
        )

    def _wanted(self, temperature: float) -> bool:
        known = self.temperatures is not None and not np.isnan(temperature)
        return not known or any(abs(temperature - T) < 0.5 for T in self.temperatures or ())


@dataclass(frozen=True, eq=False)
class _Frame:
    configuration: Configuration
    temperature: float


@lru_cache(maxsize=8)
def _read(path: Path, _modified: int) -> tuple[_Frame, ...]:
    """Return the structures of a file."""
    try:
        frames = list(_structures(path))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"file must hold structures that ASE reads but got {path} ({reason}); try extended XYZ"
        ) from error
    return tuple(_frame(atoms, known) for atoms, known in frames)


def _structures(path: Path) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield the atoms of a file and what it says of them."""
    import ase.db
    import ase.io
    from ase.io.formats import filetype

    if filetype(str(path)) in {"db", "json"}:
        with ase.db.connect(path) as database:
            for row in database.select():
                yield row.toatoms(), row.key_value_pairs
    else:
        for atoms in ase.io.iread(path, index=":"):
            yield atoms, atoms.info


def _frame(atoms: Any, known: Mapping[str, Any]) -> _Frame:
    temperature = next((known[key] for key in ("T", "temperature") if key in known), np.nan)
    configuration = Configuration(
        np.asarray(atoms.numbers, dtype=np.int64), np.array(atoms.positions), np.array(atoms.cell.array)
    )
    return _Frame(configuration, float(temperature))


def _placed(frame: _Frame, system: System) -> FloatArray | None:
    """Return the positions [N, 3] in the system's order, images nearest to the sites; None for other crystals."""
    ours, theirs = system.supercell, frame.configuration
    if not np.array_equal(np.sort(ours.numbers), np.sort(theirs.numbers)):
        return None
    strain = theirs.cell @ np.linalg.inv(ours.cell) - np.eye(3)
    if np.abs(strain).max() > _LARGEST_STRAIN:
        return None
    inverse = np.linalg.inv(theirs.cell)
    sites = ours.positions @ np.linalg.inv(ours.cell)
    fractions = theirs.positions @ inverse
    if not np.array_equal(ours.numbers, theirs.numbers):
        fractions = fractions[_assigned(fractions, theirs.numbers, sites, ours.numbers, theirs.cell)]
    nearest = fractions - np.rint(fractions - sites)
    if np.array_equal(nearest, fractions):
        return theirs.positions if np.array_equal(ours.numbers, theirs.numbers) else nearest @ theirs.cell
    return np.asarray(nearest @ theirs.cell)


def _name(positions: FloatArray, cell: FloatArray) -> str:
    """Return 16 hex digits of a structure, the same wherever the whole crystal is moved to."""
    grid = np.concatenate([positions - positions.mean(axis=0), cell]) / SAME_POSITION
    return hashlib.sha256(np.floor(grid + GRID_OFFSET).astype("<i8").tobytes()).hexdigest()[:16]


def _accepts(guard: Guard, system: System, positions: FloatArray, cell: FloatArray) -> bool:
    """Return whether a structure passes; a shift of the whole crystal counts as no displacement."""
    strain = np.linalg.inv(system.supercell.cell) @ cell - np.eye(3)
    displacements = positions - system.supercell.positions @ (np.eye(3) + strain)
    displacements -= displacements.mean(axis=0)
    return bool(guard.accepts(displacements[None], strain[None])[0])


def _assigned(
    fractions: FloatArray, numbers: IntArray, sites: FloatArray, site_numbers: IntArray, cell: FloatArray
) -> IntArray:
    """Return for each site the atom that belongs to it: the assignment of least squared distance, by species."""
    from scipy.optimize import linear_sum_assignment

    order = np.empty(len(sites), dtype=np.int64)
    for Z in np.unique(numbers):
        here, there = np.flatnonzero(site_numbers == Z), np.flatnonzero(numbers == Z)
        offsets = sites[here][:, None] - fractions[there][None]
        costs = (((offsets - np.rint(offsets)) @ cell) ** 2).sum(axis=2)
        rows, columns = linear_sum_assignment(costs)
        order[here[rows]] = there[columns]
    return order
