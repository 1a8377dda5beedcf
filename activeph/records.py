"""The frozen records that travel between the folders. Shapes and units are stated here, once.

Letters: S structures, B structures of one block, N atoms, P targets, K members, D features.
Units: Å, eV, eV/Å, eV/Å³, K, amu. Cells hold lattice vectors as rows; stress follows ASE (xx, yy, zz, yz, xz, xy;
positive under tension). All crystals are periodic in three directions (a slab carries its vacuum).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Configuration:
    """Atoms in a periodic cell."""

    numbers: IntArray  # [N] atomic numbers
    positions: FloatArray  # [N, 3] Å
    cell: FloatArray  # [3, 3] Å


@dataclass(frozen=True, eq=False)
class ThermalCell:
    """The cell of least free energy at a temperature, and the force constants in it."""

    strain: FloatArray  # [3, 3]: cell rows and sites of the system are multiplied by 1 + strain
    force_constants: FloatArray  # [n_prim, N, 3, 3] eV/Å²
    shift: FloatArray | None = None  # [N, 3] Å: where the atoms rest from the strained sites; None: there


@dataclass(frozen=True, eq=False)
class System:
    """One crystal at equilibrium. Every candidate of the system has the atoms of ``supercell`` in the same order.

    The force constants are compact: one row of blocks per atom of the primitive cell; the translations of the
    primitive lattice give the others. ``None`` where no sampler needs them.
    """

    name: str
    unit_cell: Configuration
    supercell: Configuration  # N atoms, in phonopy's order
    supercell_matrix: IntArray  # [3, 3], phonopy's convention: supercell lattice columns in unit-cell vectors
    primitive_matrix: FloatArray  # [3, 3], phonopy's convention, relative to the unit cell
    masses: FloatArray  # [N] amu
    primitive_atoms: IntArray  # [n_prim] supercell index of each atom of the primitive cell
    force_constants: FloatArray | None = None  # [n_prim, N, 3, 3] eV/Å²
    born_charges: FloatArray | None = None  # [n_prim, 3, 3] e
    dielectric: FloatArray | None = None  # [3, 3]
    effective_force_constants: Mapping[float, FloatArray] = field(default_factory=dict)
    """Renormalised force constants, shaped as ``force_constants``, by temperature in K"""
    thermal_cells: Mapping[float, ThermalCell] = field(default_factory=dict)
    """Quasi-harmonic cells by temperature in K"""
    host: str = ""
    """Name of the crystal that this one is with a defect; empty for crystals of their own"""
    guests: tuple[int, ...] = ()
    """Atomic numbers that samplers may put in the place of its own"""

    @property
    def elements(self) -> IntArray:
        """Sorted atomic numbers that may be among its atoms, whether or not a label has them."""
        return np.unique([*self.supercell.numbers.tolist(), *self.guests])


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive configurations of one system: what pools stream and models read."""

    system: str
    species: IntArray  # [B, N] atomic numbers
    positions: FloatArray  # [B, N, 3] Å
    cells: FloatArray  # [B, 3, 3] Å
    temperatures: FloatArray  # [B] K, NaN where the sampler knows none
    low_fidelity: FloatArray | None = None
    """[B, 3] eV, what a cheap code says of the targets read off the bands, NaN where it gave nothing; None where it
    was not asked"""

    def __len__(self) -> int:
        return len(self.positions)

    def configuration(self, index: int) -> Configuration:
        """Return one configuration of the block."""
        return Configuration(self.species[index], self.positions[index], self.cells[index])


@dataclass(frozen=True, eq=False)
class Candidate:
    """One configuration picked from a pool. ``id`` names it uniquely and reproducibly: sampler, seed and index."""

    id: str
    system: str
    temperature: float  # K, NaN where the sampler knows none
    configuration: Configuration


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of S candidates whatever a model says of them. A letter more: C systems of the campaign."""

    names: tuple[str, ...]  # [C] of the systems
    systems: NDArray[np.int16]  # [S] which of ``names``
    temperatures: NDArray[np.float32]  # [S] K, NaN where the sampler knows none
    seconds: FloatArray  # [C] expected time of one label, NaN where nothing is known
    targets: tuple[str, ...]  # [P] what the columns of predictions are
    hosts: tuple[str, ...] = ()  # [C] the crystal that each system is a defect of, else ""; may be left out

    def __len__(self) -> int:
        return len(self.systems)

    def take(self, rows: IntArray) -> Facts:
        """Return what is known of some of the candidates."""
        return replace(self, systems=self.systems[rows], temperatures=self.temperatures[rows])


@dataclass(frozen=True, eq=False)
class Prediction:
    """What an ensemble says of S configurations. ``scale`` makes errors of different targets comparable."""

    members: FloatArray  # [K, S, P] in the targets' units
    features: NDArray[np.floating[Any]]  # [S, D], sketched, comparable between pool and labelled set
    scale: FloatArray  # [P] standard deviation of each target on the training set
    spread: FloatArray | None = None  # [S] dimensionless; the doubt of a model that knows more than these targets
    facts: Facts | None = None  # where the selector asks for them

    def __len__(self) -> int:
        return len(self.features)

    @property
    def mean(self) -> FloatArray:
        """Mean over members [S, P]."""
        return np.asarray(self.members.mean(axis=0))

    @property
    def std(self) -> FloatArray:
        """Standard deviation over members [S, P], one degree of freedom removed; zero for a single member."""
        if len(self.members) == 1:
            return np.zeros_like(self.members[0])
        return np.asarray(self.members.std(axis=0, ddof=1))

    @property
    def uncertainty(self) -> FloatArray:
        """Spread of each structure [S], dimensionless: the model's own, else the root mean square of std / scale."""
        if self.spread is not None:
            return self.spread
        return np.asarray(np.sqrt(np.mean((self.std / self.scale) ** 2, axis=1)))

    def take(self, rows: IntArray) -> Prediction:
        """Return what is said of some of the configurations."""
        spread = None if self.spread is None else self.spread[rows]
        facts = None if self.facts is None else self.facts.take(rows)
        return replace(self, members=self.members[:, rows], features=self.features[rows], spread=spread, facts=facts)


@dataclass(frozen=True, eq=False)
class Label:
    """What an electronic-structure code said of one configuration. Only converged calculations become labels.

    Band edges are those of the whole set of k-points and spins; ``band_gap`` is the fundamental (indirect) one,
    0 for a metal. Eigenvalues and occupations are kept so that any other definition can be had later.
    """

    configuration: Configuration
    energy: float  # eV, whole cell
    forces: FloatArray  # [N, 3] eV/Å
    stress: FloatArray  # [6] eV/Å³
    band_gap: float  # eV, >= 0
    direct_band_gap: float  # eV, >= 0
    valence_band_maximum: float  # eV
    conduction_band_minimum: float  # eV
    eigenvalues: FloatArray  # [spins, k-points, bands] eV
    occupations: FloatArray  # [spins, k-points, bands], 2 or 1 where full
    provenance: dict[str, Any] = field(default_factory=dict)
    """code, code_version, fingerprint, settings, scf_iterations (or None), wall_time in s, host"""


@dataclass(frozen=True)
class Failure:
    """A calculation that gave no label, kept in the ledger with its reason."""

    kind: str  # unconverged, crashed, timeout, unphysical or missing
    message: str
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Entry:
    """One label of a campaign with its place in it: what is exported."""

    key: str  # ledger key
    label: Label
    system: str
    temperature: float  # K, NaN where the sampler knows none
    candidate: str  # id of the candidate
    arms: tuple[str, ...]  # arms that spent it, empty for the test set
    split: str  # train, validation or test


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled configurations grouped by system; rows of the arrays follow the blocks one after the other."""

    blocks: tuple[Block, ...]
    target_names: tuple[str, ...]
    targets: FloatArray  # [S, P]
    energies: FloatArray  # [S] eV
    forces: tuple[FloatArray, ...]  # one [B, N, 3] eV/Å per block
    stresses: FloatArray  # [S, 6] eV/Å³

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Done:
    """A task that an executor finished."""

    index: int
    value: Any


@dataclass(frozen=True)
class Failed:
    """A task that raised or whose worker died; ``traceback`` is the remote one."""

    index: int
    error: str
    traceback: str
