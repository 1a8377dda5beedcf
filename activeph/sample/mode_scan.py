"""Displacements along single vibrations and pairs of them, farther than heat would carry all of them at once."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from activeph.phonons.draw import Float32Array, HarmonicDraw
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
        sets = [degenerate_sets(modes.frequencies) for modes, _ in ensembles]
        draw = _Scan(HarmonicDraw(ensembles), sets, ensembles, self.reach, self.pairs)
        return DrawnPool(pool_name(self.kind, self, system), system, n, seed, self.temperatures_or_refuse(), draw, self)


class _Scan:
    """Normals that are zero but for one or two sets."""

    def __init__(
        self,
        draw: HarmonicDraw,
        sets: list[list[IntArray]],
        ensembles: list[tuple[HarmonicModes, FloatArray]],
        reach: float,
        pairs: float,
    ) -> None:
        self._draw, self._reach, self._pairs = draw, reach, pairs
        # A mode that the policy leaves out has no amplitude and is not scanned.
        self._sets = [
            [group for group in found if amplitudes[group].max() > 0]
            for found, (_, amplitudes) in zip(sets, ensembles, strict=True)
        ]

    def __call__(self, bits: np.random.SFC64, temperatures: IntArray) -> Float32Array:
        rng = np.random.Generator(bits)
        noise = np.zeros((len(temperatures), self._draw.n_modes), dtype=np.float32)
        for row, turn in enumerate(temperatures):
            sets = self._sets[turn]
            count = min(2 if rng.random() < self._pairs else 1, len(sets))
            for chosen in rng.choice(len(sets), count, replace=False):
                direction = rng.standard_normal(len(sets[chosen]))
                direction /= np.linalg.norm(direction)
                noise[row, sets[chosen]] = rng.uniform(-self._reach, self._reach) * direction
        return self._draw.displacements(noise, temperatures)
