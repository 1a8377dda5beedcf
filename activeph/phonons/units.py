"""Constants of lattice dynamics in Å, eV, K, THz and amu (CODATA 2018; exact where the SI fixes them)."""

from __future__ import annotations

import math

ELEMENTARY_CHARGE = 1.602176634e-19  # C
ATOMIC_MASS = 1.66053906660e-27  # kg
HBAR = 1.054571817e-34  # J s
BOLTZMANN = 8.617333262e-5  # eV/K

THZ_PER_ROOT = math.sqrt(ELEMENTARY_CHARGE / ATOMIC_MASS) * 1e10 / (2 * math.pi) * 1e-12
"""Frequency in THz of an eigenvalue of 1 eV/(Å² amu)."""

HBAR_OMEGA = 2 * math.pi * 1e12 * HBAR / ELEMENTARY_CHARGE
"""Quantum of vibration in eV at 1 THz."""

VARIANCE_UNIT = HBAR / (2 * math.pi * 1e12) / (ATOMIC_MASS * 1e-20)
"""ħ/ω in amu Å² at 1 THz."""
