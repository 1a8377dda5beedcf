"""Self-consistent effective force constants at a temperature: what a crystal's phonons are while its atoms move.

The harmonic crystal Φ whose thermal distribution ρ(Φ, T) reproduces itself: Φ = ⟨∂²V⟩ over ρ(Φ, T), which minimises
the variational free energy F = F_harm(Φ) + ⟨V - V_harm⟩ (D. J. Hooton, Phil. Mag. 46, 422 (1955); stochastic forms:
I. Errea et al., Phys. Rev. B 89, 064302 (2014); O. Hellman et al., Phys. Rev. B 87, 104111 (2013)). For a Gaussian ρ
the least-squares force constants of forces drawn from ρ are ⟨∂²V⟩, so one round is: draw, get forces, refit, mix.

In a strongly anharmonic crystal most of the forces are noise to that fit, so pair terms that a few labels teach carry
the anharmonic part (:mod:`activeph.phonons.pair_terms`) and the fit sees the remainder: the expectation is the same,
the labels needed are several times fewer.

Draws of earlier rounds count with the weight ρ(now) / Σ_k (n_k/n) ρ(round k): nothing that was labelled is lost.
Forces come from whoever calls: :meth:`Renormalisation.propose` gives displacements, :meth:`update` takes the answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from activeph.errors import InputError
from activeph.phonons.draw import HarmonicDraw
from activeph.phonons.fit import ForceConstantFit
from activeph.phonons.gaussian import ThermalGaussian
from activeph.phonons.labelled_draws import LabelledDraws, Weights
from activeph.phonons.modes import harmonic_modes, rebuilt
from activeph.phonons.moments import Moments, total_moments
from activeph.phonons.pair_terms import PairAverage, PairTerms
from activeph.phonons.thermal import Statistics, harmonic_free_energy
from activeph.records import FloatArray, System
from activeph.seeds import derive_seed

MOST_STEPS = 60  # of refitting between two batches of labels
WIDEST = 4.0  # times the variance of the last draws, along any direction, to which one batch of labels may lead
Answers = tuple[FloatArray, FloatArray, FloatArray]
"""Displacements [S, N, 3] Å as labelled, forces [S, N, 3] eV/Å, energies [S] eV. Failed ones are left out."""


@dataclass(frozen=True)
class Settings:
    """How a renormalisation is run."""

    draws: int = 8  # structures labelled per round
    mixing: float = 0.5  # largest share of the refitted force constants in each step
    max_rounds: int = 30
    frequency_tolerance: float = 0.05  # THz, of root mean square change; half the statistical error allowed
    energy_tolerance: float = 0.001  # eV per atom, of change and of statistical error
    start_floor: float = 0.3  # THz, lowest frequency with which the first round draws
    floor: float = 0.05  # THz, lowest frequency with which any round draws
    statistics: Statistics = "quantum"


@dataclass(frozen=True, eq=False)
class Round:
    """What one round of labels gave."""

    number: int
    n_labels: int  # all draws so far
    effective_labels: float  # their effective number under the present weights
    frequencies: FloatArray  # [3N - 3] THz, sorted, negative where imaginary
    refitted: FloatArray  # [3N - 3] THz, of one more refit: equal to ``frequencies`` where they are self-consistent
    frequency_errors: FloatArray  # [3N - 3] THz, jackknife of the refit: an upper estimate, self-consistency damps it
    frequency_change: float  # THz, root mean square against the round before
    free_energy: float  # eV per atom, of the effective crystal: potential energy as the labels count it
    free_energy_error: float  # eV per atom
    explained: float  # share of the forces' variance that force constants and pair terms hold, at most 1
    force_constants: FloatArray  # [n_prim, N, 3, 3] eV/Å²


class Renormalisation:
    """The state of one self-consistent calculation. Deterministic: same seed and answers, same course."""

    def __init__(self, system: System, temperature: float, settings: Settings | None = None, seed: int = 0) -> None:
        """Start from the system's force constants, imaginary frequencies replaced by their moduli.

        Mixing then never leads through ω = 0, where displacements grow without bound.
        """
        if not temperature >= 0:
            raise InputError(f"temperature must not be negative but got {temperature}; give kelvin")
        self.system, self.temperature, self.seed = system, temperature, seed
        self.settings = settings or Settings()
        self.fit = ForceConstantFit(system)
        self.pairs = PairTerms(system)
        self.rounds: list[Round] = []
        modes = harmonic_modes(system)
        used = np.maximum(np.abs(modes.frequencies), self.settings.start_floor)
        self._parameters = self.fit.parameters(rebuilt(system, modes, used))
        self._draws = LabelledDraws(self.fit, self.pairs, len(system.supercell.numbers))
        self._share, self._last_step = self.settings.mixing, np.zeros_like(self._parameters)

    @property
    def effective(self) -> System:
        """The system with the force constants reached so far."""
        return self._with(self._parameters)

    @property
    def converged(self) -> bool:
        """True when two successive rounds stood still within the tolerances and no mode is imaginary."""
        return len(self.rounds) > 2 and all(self._still(index) for index in (-1, -2))

    def propose(self) -> FloatArray:
        """Return the displacements [draws, N, 3] in Å that the next round wants labelled."""
        gaussian = self._gaussian(self._parameters)
        draw = HarmonicDraw([(gaussian.modes, gaussian.amplitudes)])
        bits = np.random.SFC64(derive_seed("renormalise", self.seed, len(self.rounds)))
        return draw(bits, np.zeros(self.settings.draws, dtype=np.int64)).astype(np.float64)

    def update(self, displacements: FloatArray, forces: FloatArray, energies: FloatArray) -> Round:
        """Take the answers to :meth:`propose` (those that did not fail) and return what the round gave.

        Raises:
            InputError: no answer at all in the first round, or shapes that do not belong together.
        """
        if not len(displacements) == len(forces) == len(energies):
            raise InputError(
                "displacements, forces and energies must be of equal number but got "
                f"{len(displacements)}, {len(forces)} and {len(energies)}"
            )
        self._draws.add(self._gaussian(self._parameters), displacements, forces, energies)
        if len(self._draws) == 0:
            raise InputError("a round of renormalisation must have labels but got none; see why all of them failed")
        self._iterate()
        self.rounds.append(self._summary())
        return self.rounds[-1]

    def _iterate(self) -> None:
        """Refit and mix on the draws at hand until nothing moves or their weights wear out.

        The less the pair terms leave to the force constants, the less the weights matter, and the farther one step
        may go from what was labelled.
        """
        source = self._gaussian(self._parameters)
        worn = 0.0
        for _ in range(MOST_STEPS):
            gaussian = self._gaussian(self._parameters)
            weights = self._weights(gaussian)
            worn = worn or 0.5 * self._draws.left * weights.untempered
            if weights.untempered < worn:
                return
            moments = total_moments(self._draws.moments(weights.values))
            step = self._step(moments, self._draws.coefficients, self._average(gaussian))
            change = self._bounded(self._gain(step), gaussian, source)
            self._parameters = self._parameters + change
            if np.abs(change).max() < 1e-6 * np.abs(self._parameters).max():
                return

    def _gain(self, step: FloatArray) -> FloatArray:
        """Return the part of a step that is taken: less whenever steps reverse (H. Kesten, Ann. Math. Stat. 29, 1958).

        Stiff phonons move little and then look soft, soft ones move far and then look stiff: full steps overshoot
        without end in a strongly anharmonic crystal.
        """
        self._share *= 0.7 if float(step @ self._last_step) < 0 else 1.1
        self._share = min(self._share, self.settings.mixing)
        self._last_step = step
        return self._share * step

    def _bounded(self, change: FloatArray, present: ThermalGaussian, source: ThermalGaussian) -> FloatArray:
        """Return the change, shortened so that modes soften gently and no swing outgrows what was labelled.

        The lowest frequency falls by at most a third: the variance of a mode must grow for an instability to be felt
        as the wells that end it, through ω = 0 it would leap instead, and |ω| beyond draws the narrow distribution in
        which the crystal looks unstable for ever. Beyond ``WIDEST`` times the variance that was labelled last,
        pair terms would speak of distances they have never seen.
        """
        for _ in range(20):
            gaussian = self._gaussian(self._parameters + change)
            falls = gaussian.modes.frequencies.min() <= float(present.used.min()) / 1.5
            if not falls and source.widest(gaussian) < WIDEST:
                return change
            change = 0.5 * change
        return 0 * change

    def _step(self, moments: Moments, coefficients: FloatArray, average: PairAverage) -> FloatArray:
        """Return the way [P] to the refitted parameters; directions without data stay.

        The mean curvature of the pair terms is exact; the weighted least squares of what they leave adds the rest.
        """
        known = self.fit.parameters(np.tensordot(coefficients, average.constants, 1))
        residual = moments.remainder(coefficients) + moments.hh @ (known - self._parameters)
        return np.asarray(np.linalg.lstsq(moments.hh, residual, rcond=1e-8)[0])

    def _weights(self, gaussian: ThermalGaussian) -> Weights:
        return self._draws.weights(gaussian, 0.5 * self.settings.draws)

    def _average(self, gaussian: ThermalGaussian) -> PairAverage:
        return self.pairs.average(gaussian.covariance()) if self._draws.coefficients.any() else self.pairs.nothing

    def _summary(self) -> Round:
        gaussian = self._gaussian(self._parameters)
        weights = self._weights(gaussian)
        frequencies = np.sort(gaussian.modes.frequencies)
        before = self.rounds[-1].frequencies if self.rounds else np.full_like(frequencies, np.nan)
        average = self._average(gaussian)
        refitted, errors = self._refits(self._draws.moments(weights.values), average)
        free_energy, error = self._free_energy(gaussian, average, weights)
        constants = self.effective.force_constants
        assert constants is not None
        return Round(
            number=len(self.rounds),
            n_labels=len(self._draws),
            effective_labels=weights.untempered,
            frequencies=frequencies,
            refitted=refitted,
            frequency_errors=errors,
            frequency_change=float(np.sqrt(np.mean((frequencies - before) ** 2))),
            free_energy=free_energy,
            free_energy_error=error,
            explained=self._draws.explained,
            force_constants=constants,
        )

    def _refits(self, groups: list[Moments], average: PairAverage) -> tuple[FloatArray, FloatArray]:
        """Return the sorted frequencies of one more refit, and their jackknife errors over groups of draws."""
        total = total_moments(groups)

        def frequencies(moments: Moments, pairs: FloatArray) -> FloatArray:
            constants = self._parameters + self._step(moments, pairs, average)
            return np.asarray(np.sort(harmonic_modes(self._with(constants)).frequencies))

        parts = [frequencies(total - group, pairs) for group, pairs in zip(groups, self._draws.without, strict=True)]
        errors = np.std(parts, axis=0) * np.sqrt(max(len(parts) - 1, 1))
        return frequencies(total, self._draws.coefficients), np.asarray(errors)

    def _free_energy(self, gaussian: ThermalGaussian, average: PairAverage, weights: Weights) -> tuple[float, float]:
        """Return the variational free energy F_harm + ⟨V - V_harm⟩ and its error, eV per atom.

        Of ⟨V⟩ the pair terms and the remaining force constants are averaged exactly, the rest over the draws.
        """
        n_atoms = len(self.system.masses)
        coefficients = self._draws.coefficients
        rest = self._parameters - self.fit.parameters(np.tensordot(coefficients, average.constants, 1))
        excess = self._draws.excess(rest)
        mean = float(np.average(excess, weights=weights.values))
        spread = float(np.sqrt(np.average((excess - mean) ** 2, weights=weights.values)))
        exact = float(average.energies @ coefficients) + self._mean_energy(rest, gaussian) - gaussian.mean_energy()
        own = harmonic_free_energy(gaussian.used, self.temperature, self.settings.statistics)
        return (own + exact + mean) / n_atoms, spread / np.sqrt(max(weights.effective - 1, 1)) / n_atoms

    def _mean_energy(self, parameters: FloatArray, gaussian: ThermalGaussian) -> float:
        """Return ½ tr(Φ C) in eV of force constants of parameters under the covariance of a Gaussian."""
        n_atoms, first = len(self.system.masses), self.system.primitive_atoms
        rows = gaussian.covariance().reshape(n_atoms, 3, n_atoms, 3)[first]  # [p, 3, N, 3]
        return float(0.5 * n_atoms / len(first) * np.einsum("ajxy,axjy->", self.fit.constants(parameters), rows))

    def _still(self, index: int) -> bool:
        last, before = self.rounds[index], self.rounds[index - 1]
        error = float(np.sqrt(np.mean(last.frequency_errors**2)))
        energy_error = float(np.hypot(last.free_energy_error, before.free_energy_error))
        settings = self.settings
        return (
            min(last.frequencies[0], last.refitted[0]) > 0
            and error <= 2 * settings.frequency_tolerance  # an upper estimate, see Round
            and last.frequency_change <= max(settings.frequency_tolerance, 2 * error)
            and last.free_energy_error <= settings.energy_tolerance
            and abs(last.free_energy - before.free_energy) <= max(settings.energy_tolerance, 2 * energy_error)
        )

    def _with(self, parameters: FloatArray) -> System:
        return dataclasses.replace(self.system, force_constants=self.fit.constants(parameters))

    def _gaussian(self, parameters: FloatArray) -> ThermalGaussian:
        modes = harmonic_modes(self._with(parameters))
        settings = self.settings
        return ThermalGaussian(modes, self.system.masses, self.temperature, settings.statistics, settings.floor)


def renormalise(
    system: System,
    temperature: float,
    answer: Callable[[FloatArray], Answers],
    settings: Settings | None = None,
    seed: int = 0,
) -> Renormalisation:
    """Run rounds until they stand still or ``max_rounds`` is reached; ``converged`` of the result tells which.

    Args:
        system: crystal with (perhaps unstable) force constants to start from.
        temperature: K.
        answer: gives displacements [S, N, 3] their forces and energies, those that fail left out.
        settings: rounds, mixing, tolerances.
        seed: of the draws.
    """
    state = Renormalisation(system, temperature, settings, seed)
    for _ in range(state.settings.max_rounds):
        state.update(*answer(state.propose()))
        if state.converged:
            break
    return state
