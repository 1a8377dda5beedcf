"""Displacements along single vibrations and pairs of them, farther than heat would carry all of them at once."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from activeph.phonons.modes import HarmonicModes, degenerate_sets
from activeph.records import FloatArray, IntArray, System
from activeph.sample.drawn import DrawnPool, pool_name
from activeph.sample.phonon import Thermal


class ModeScanSampler(Thermal):
    """One set of degenerate modes, or two, per candidate; all other modes rest.

    The direction within a set is random, and the coordinate uniform in ±`reach` thermal standard deviations: of each
    set the pool shows the whole potential well, and of pairs how they couple.
    """

    kind: Literal["mode-scan"] = "mode-scan"
    reach: float = Field(3.0, gt=0)
    """Largest coordinate, in standard deviations of the mode at the candidate's temperature."""
    pairs: float = Field(0.5, ge=0, le=1)
    """Share of candidates in which two sets move."""

    def pool(self, system: System, n: int, seed: int) -> DrawnPool:
        """Return ``n`` candidates.

        Raises:
            InputError: no force constants or temperatures, or imaginary modes that the policy refuses.
        """
        ensembles = self.ensembles(system)
        draw = _Scan(system, ensembles, self.reach, self.pairs)
        return DrawnPool(pool_name(self.kind, self, system), system, n, seed, self.temperatures_or_refuse(), draw, self)


class _Scan:
    """Displacements in one or two sets of degenerate modes. Their span counts, not the vectors that an eigensolver
    chose in it: directions are projections of isotropic noise.
    """

    def __init__(
        self, system: System, ensembles: list[tuple[HarmonicModes, FloatArray]], reach: float, pairs: float
    ) -> None:
        self._root = np.sqrt(system.masses)[:, None]  # [N, 1]
        self._reach, self._pairs = reach, pairs
        self._sets: list[list[tuple[FloatArray, FloatArray]]] = []  # per temperature: vectors [3N, m], σ [m]
        for modes, amplitudes in ensembles:
            vectors = modes.vectors()
            groups = degenerate_sets(modes.frequencies)
            # A mode that the policy leaves out has no amplitude and is not scanned.
            moving = [group for group in groups if amplitudes[group].max() > 0]
            self._sets.append([(vectors[:, group], amplitudes[group]) for group in moving])

    def __call__(self, bits: np.random.SFC64, temperatures: IntArray) -> FloatArray:
        rng = np.random.Generator(bits)
        result = np.zeros((len(temperatures), self._root.size, 3))
        for row, turn in enumerate(temperatures):
            sets = self._sets[turn]
            count = min(2 if rng.random() < self._pairs else 1, len(sets))
            for chosen in rng.choice(len(sets), count, replace=False):
                vectors, amplitudes = sets[chosen]
                direction = vectors.T @ rng.standard_normal(len(vectors))
                direction *= rng.uniform(-self._reach, self._reach) / np.linalg.norm(direction)
                result[row] += (vectors @ (amplitudes * direction)).reshape(-1, 3) / self._root
        return result
