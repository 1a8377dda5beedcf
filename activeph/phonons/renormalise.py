"""Self-consistent effective force constants at a temperature: what a crystal's phonons are while its atoms move.

The harmonic crystal Φ whose thermal distribution ρ(Φ, T) reproduces itself: Φ = ⟨∂²V⟩ over ρ(Φ, T), which minimises
the variational free energy F = F_harm(Φ) + ⟨V - V_harm⟩ (D. J. Hooton, Phil. Mag. 46, 422 (1955); stochastic forms:
I. Errea et al., Phys. Rev. B 89, 064302 (2014); O. Hellman et al., Phys. Rev. B 87, 104111 (2013)). For a Gaussian ρ
the least-squares force constants of forces drawn from ρ are ⟨∂²V⟩, so one round is: draw, get forces, refit, mix.

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
from activeph.phonons.modes import HarmonicModes, harmonic_modes, rebuilt
from activeph.phonons.thermal import Statistics, harmonic_free_energy, variances
from activeph.records import FloatArray, System
from activeph.seeds import derive_seed

Answers = tuple[FloatArray, FloatArray, FloatArray]
"""Displacements [S, N, 3] Å as labelled, forces [S, N, 3] eV/Å, energies [S] eV. Failed ones are left out."""


@dataclass(frozen=True)
class Settings:
    """How a renormalisation is run."""

    draws: int = 16  # structures labelled per round
    mixing: float = 0.5  # largest share of the refitted force constants in each step
    max_rounds: int = 20
    frequency_tolerance: float = 0.05  # THz, of root mean square change; half the statistical error allowed
    energy_tolerance: float = 0.001  # eV per atom, of change and of statistical error
    floor: float = 0.3  # THz, lowest frequency with which a round draws
    statistics: Statistics = "quantum"


@dataclass(frozen=True, eq=False)
class Round:
    """What one round of labels gave."""

    number: int
    n_labels: int  # all draws so far
    effective_labels: float  # their effective number under the present weights
    frequencies: FloatArray  # [3N - 3] THz, sorted, negative where imaginary
    frequency_errors: FloatArray  # [3N - 3] THz, jackknife of the refit: an upper estimate, self-consistency damps it
    frequency_change: float  # THz, root mean square against the round before
    free_energy: float  # eV per atom, of the effective crystal: potential energy as the labels count it
    free_energy_error: float  # eV per atom
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
        self.rounds: list[Round] = []
        modes = harmonic_modes(system)
        used = np.maximum(np.abs(modes.frequencies), self.settings.floor)
        self._parameters = self.fit.parameters(rebuilt(system, modes, used))
        n_atoms = len(system.supercell.numbers)
        self._u: FloatArray = np.empty((0, n_atoms, 3))
        self._f: FloatArray = np.empty((0, n_atoms, 3))
        self._energies: FloatArray = np.empty(0)
        self._share, self._last_step = self.settings.mixing, np.zeros_like(self._parameters)
        self._sources: list[_Gaussian] = []  # the distribution each round drew from
        self._counts: list[int] = []

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
        self._sources.append(self._gaussian(self._parameters))
        self._counts.append(len(forces))
        self._u = np.concatenate([self._u, displacements])
        self._f = np.concatenate([self._f, forces])
        self._energies = np.concatenate([self._energies, energies])
        if len(self._f) == 0:
            raise InputError("a round of renormalisation must have labels but got none; see why all of them failed")
        self._iterate()
        self.rounds.append(self._summary())
        return self.rounds[-1]

    def _iterate(self) -> None:
        """Refit and mix on the draws at hand until nothing moves or the weights wear out."""
        worn = 0.0
        for _ in range(50):
            weights, effective = self._weights(self._gaussian(self._parameters))
            worn = worn or 0.5 * effective
            if effective < worn:
                return
            change = self._gain(self._step(weights))
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

    def _step(self, weights: FloatArray) -> FloatArray:
        """Return the way [P] to the weighted least-squares parameters; directions without data stay."""
        matrix, vector = self.fit.normal_equations(*self._centred(weights), weights)
        residual = vector - matrix @ self._parameters
        return np.asarray(np.linalg.lstsq(matrix, residual, rcond=1e-8)[0])

    def _centred(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return displacements and forces less their means: what pulls the sites elsewhere is no force constant."""
        means = [np.einsum("s,sni->ni", weights, values) / weights.sum() for values in (self._u, self._f)]
        return self._u - means[0], self._f - means[1]

    def _weights(self, target: _Gaussian) -> tuple[FloatArray, float]:
        """Return weights [S] (mean one) of all draws under ``target`` and their effective number (L. Kish 1965)."""
        counts = np.array(self._counts, dtype=np.float64)
        densities = np.array([source.log_density(self._u) for source in self._sources])  # [rounds, S]
        densities[counts == 0] = -np.inf
        share = np.log(np.maximum(counts, 1e-300) / counts.sum())
        highest = densities.max(axis=0)
        mixture = highest + np.log(np.exp(densities - highest + share[:, None]).sum(axis=0))
        logarithm = target.log_density(self._u) - mixture
        weights = np.exp(logarithm - logarithm.max())
        return weights / weights.mean(), float(weights.sum() ** 2 / (weights**2).sum())

    def _summary(self) -> Round:
        target = self._gaussian(self._parameters)
        weights, effective = self._weights(target)
        frequencies = np.sort(target.modes.frequencies)
        before = self.rounds[-1].frequencies if self.rounds else np.full_like(frequencies, np.nan)
        free_energy, error = self._free_energy(target, weights, effective)
        constants = self.effective.force_constants
        assert constants is not None
        return Round(
            number=len(self.rounds),
            n_labels=len(self._f),
            effective_labels=effective,
            frequencies=frequencies,
            frequency_errors=self._frequency_errors(weights),
            frequency_change=float(np.sqrt(np.mean((frequencies - before) ** 2))),
            free_energy=free_energy,
            free_energy_error=error,
            force_constants=constants,
        )

    def _free_energy(self, target: _Gaussian, weights: FloatArray, effective: float) -> tuple[float, float]:
        """Return the variational free energy and its error, eV per atom."""
        n_atoms = len(self.system.masses)
        coordinates = target.coordinates(self._u)
        harmonic = 0.5 * np.sum((coordinates * target.roots) ** 2, axis=1)
        excess = self._energies - harmonic
        mean = float(np.average(excess, weights=weights))
        spread = float(np.sqrt(np.average((excess - mean) ** 2, weights=weights)))
        own = harmonic_free_energy(target.used, self.temperature, self.settings.statistics)
        return (own + mean) / n_atoms, spread / np.sqrt(max(effective - 1, 1)) / n_atoms

    def _frequency_errors(self, weights: FloatArray) -> FloatArray:
        """Return the jackknife error of each sorted frequency: refits without one tenth of the draws at a time."""
        groups = [part for part in np.array_split(np.arange(len(weights)), 10) if len(part)]
        u, f = self._centred(weights)
        sums = [self.fit.normal_equations(u[part], f[part], weights[part]) for part in groups]
        matrix, vector = (np.sum([pair[i] for pair in sums], axis=0) for i in (0, 1))
        found = []
        for part, right in sums:
            residual = vector - right - (matrix - part) @ self._parameters
            change = np.linalg.lstsq(matrix - part, residual, rcond=1e-8)[0]
            found.append(np.sort(harmonic_modes(self._with(self._parameters + change)).frequencies))
        n = len(groups)
        return np.asarray(np.std(found, axis=0) * np.sqrt(max(n - 1, 1)))

    def _still(self, index: int) -> bool:
        last, before = self.rounds[index], self.rounds[index - 1]
        error = float(np.sqrt(np.mean(last.frequency_errors**2)))
        energy_error = float(np.hypot(last.free_energy_error, before.free_energy_error))
        settings = self.settings
        return (
            last.frequencies[0] > 0
            and error <= 2 * settings.frequency_tolerance  # an upper estimate, see Round
            and last.frequency_change <= max(settings.frequency_tolerance, 2 * error)
            and last.free_energy_error <= settings.energy_tolerance
            and abs(last.free_energy - before.free_energy) <= max(settings.energy_tolerance, 2 * energy_error)
        )

    def _with(self, parameters: FloatArray) -> System:
        return dataclasses.replace(self.system, force_constants=self.fit.constants(parameters))

    def _gaussian(self, parameters: FloatArray) -> _Gaussian:
        modes = harmonic_modes(self._with(parameters))
        return _Gaussian(modes, self.system.masses, self.temperature, self.settings)


class _Gaussian:
    """The thermal distribution of a harmonic crystal, as drawn from: |ω|, at least the floor."""

    def __init__(self, modes: HarmonicModes, masses: FloatArray, temperature: float, settings: Settings) -> None:
        self.modes = modes
        self.used = np.maximum(np.abs(modes.frequencies), settings.floor)  # THz
        self.amplitudes = np.sqrt(variances(self.used, temperature, settings.statistics))
        self._vectors = modes.vectors()
        self._masses = masses

    @property
    def roots(self) -> FloatArray:
        """Square roots [M] of the eigenvalues in use, (eV/amu)^(1/2)/Å."""
        from activeph.phonons.units import THZ_PER_ROOT

        return self.used / THZ_PER_ROOT

    def coordinates(self, displacements: FloatArray) -> FloatArray:
        """Return normal coordinates [S, M] in amu^(1/2) Å."""
        weighted = displacements * np.sqrt(self._masses)[:, None]
        return np.asarray(weighted.reshape(len(displacements), -1) @ self._vectors)

    def log_density(self, displacements: FloatArray) -> FloatArray:
        """Return the logarithm of the density [S], up to a constant that all crystals of this kind share."""
        scaled = self.coordinates(displacements) / self.amplitudes
        return np.asarray(-0.5 * np.sum(scaled**2, axis=1) - np.sum(np.log(self.amplitudes)))


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
