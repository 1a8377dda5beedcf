"""The canonical harmonic ensemble: how far modes swing at a temperature, and what to do where one is imaginary.

Variance of a mass-weighted normal coordinate: σ² = (ħ/2ω) coth(ħω/2kT) (quantum), kT/ω² (classical); A. A. Maradudin
et al., Theory of Lattice Dynamics in the Harmonic Approximation, ch. II.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from activeph.errors import InputError
from activeph.phonons.modes import HarmonicModes
from activeph.phonons.units import BOLTZMANN, HBAR_OMEGA, VARIANCE_UNIT
from activeph.records import FloatArray, IntArray

Statistics = Literal["quantum", "classical"]
ImaginaryPolicy = Literal["refuse", "skip", "absolute", "floor", "renormalise"]

CUTOFF = 0.01
"""THz. A frequency of smaller modulus has no thermal amplitude (phonopy's cutoff)."""


def variances(frequencies: FloatArray, temperature: float, statistics: Statistics = "quantum") -> FloatArray:
    """Return σ² in amu Å² of normal coordinates at positive frequencies (THz); infinite frequency gives zero."""
    if statistics == "classical":
        # kT/ω² = 2 (ħ/2ω) · kT/(ħω)
        return np.asarray(VARIANCE_UNIT * BOLTZMANN * temperature / (HBAR_OMEGA * frequencies**2))
    if temperature == 0:
        return np.asarray(VARIANCE_UNIT / (2 * frequencies))
    return np.asarray(
        VARIANCE_UNIT / (2 * frequencies) / np.tanh(HBAR_OMEGA * frequencies / (2 * BOLTZMANN * temperature))
    )


def usable_frequencies(
    frequencies: FloatArray, policy: ImaginaryPolicy, floor: float = 0.5, names: Sequence[str] = ()
) -> FloatArray:
    """Return positive frequencies for every mode; infinite (no motion) where the policy leaves a mode out.

    ``refuse`` raises where a mode is imaginary or vanishing, and so does ``renormalise``, whose force constants should
    have none; ``skip`` leaves such modes out; ``absolute`` takes |ω| as phonopy does (below its cutoff of 0.01 THz a
    mode is left out); ``floor`` lifts modes to at least ``floor`` THz. ``names`` say where each mode is, for the error.

    Raises:
        InputError: ``refuse`` and a mode below 0.01 THz. The sentence lists the modes and the choices.
    """
    unstable = frequencies < CUTOFF
    if policy in ("refuse", "renormalise"):
        if unstable.any():
            places = [names[int(i)] for i in np.flatnonzero(unstable)] if names else []
            raise InputError(_refusal(frequencies[unstable], places))
        return np.array(frequencies)
    if policy == "floor":
        return np.maximum(frequencies, floor)
    positive = np.abs(frequencies) if policy == "absolute" else frequencies
    return np.where(positive > CUTOFF, positive, np.inf)


def thermal_amplitudes(
    modes: HarmonicModes,
    temperature: float,
    statistics: Statistics = "quantum",
    policy: ImaginaryPolicy = "refuse",
    floor: float = 0.5,
) -> FloatArray:
    """Return σ [3N - 3] in amu^(1/2) Å of all modes at a temperature in K, in the order of ``modes.frequencies``."""
    frequencies = usable_frequencies(modes.frequencies, policy, floor, _places(modes))
    return np.sqrt(variances(frequencies, temperature, statistics))


def displacement_tensors(modes: HarmonicModes, amplitudes: FloatArray) -> FloatArray:
    """Return ⟨u u⟩ of each primitive atom [p, 3, 3] in Å²: the same for all its translations."""
    n_sites, n_cells = modes.lattice.atoms.shape
    total = np.zeros((n_sites, 3, 3))
    for block, place in modes.slices():
        # The waves of a block sum to 2/L (pair) or 1/L; both parts of a pair carry half of it.
        scaled = (block.vectors * amplitudes[place]).reshape(len(block.columns), n_sites, 3, -1)
        total += np.einsum("ckxm,ckym->kxy", scaled, scaled) / n_cells
    return np.asarray(total / modes.masses[:, None, None])


def rms_per_species(modes: HarmonicModes, amplitudes: FloatArray, numbers: IntArray) -> dict[int, float]:
    """Return the root mean square displacement in Å (three directions together) of each atomic number.

    ``numbers`` [p] are the atomic numbers of the primitive atoms.
    """
    squares = np.trace(displacement_tensors(modes, amplitudes), axis1=1, axis2=2)
    return {int(Z): float(np.sqrt(squares[numbers == Z].mean())) for Z in np.unique(numbers)}


def covariance(modes: HarmonicModes, amplitudes: FloatArray) -> FloatArray:
    """Return the full covariance [3N, 3N] of displacements in Å² (rows: atom, direction), for moderate cells."""
    masses = np.empty(modes.lattice.atoms.size)
    masses[modes.lattice.atoms] = modes.masses[:, None]
    root = modes.vectors() * amplitudes / np.repeat(np.sqrt(masses), 3)[:, None]
    return np.asarray(root @ root.T)


def harmonic_free_energy(frequencies: FloatArray, temperature: float, statistics: Statistics = "quantum") -> float:
    """Return the vibrational free energy in eV of modes with positive frequencies (THz): zero point included."""
    energies = HBAR_OMEGA * frequencies
    if temperature == 0:
        return 0.0 if statistics == "classical" else float(np.sum(energies / 2))
    if statistics == "classical":
        return float(np.sum(BOLTZMANN * temperature * np.log(energies / (BOLTZMANN * temperature))))
    return float(
        np.sum(energies / 2 + BOLTZMANN * temperature * np.log1p(-np.exp(-energies / (BOLTZMANN * temperature))))
    )


def _places(modes: HarmonicModes) -> list[str]:
    """Return the q-point of each mode in words: fractions of the reciprocal primitive vectors."""
    words = []
    for block in modes.blocks:
        shown = " ".join(f"{value:.3g}" for value in block.q_point)
        words += [f" at q = ({shown})"] * len(block.frequencies)
    return words


def _refusal(frequencies: FloatArray, names: Sequence[str]) -> str:
    order = np.argsort(frequencies, kind="stable")
    listed = ", ".join(f"{frequencies[i]:.2f}{names[i] if names else ''}" for i in order[:12])
    more = f" and {len(frequencies) - 12} more" if len(frequencies) > 12 else ""
    return (
        f"all vibrations must have real frequencies but got {len(frequencies)} imaginary or vanishing ones "
        f"(THz, imaginary shown negative: {listed}{more}); set `imaginary` to skip, absolute or floor, "
        "or to renormalise, which finds force constants at temperature"
    )
