"""Random streams named by words, so that a resumed run draws exactly what an uninterrupted one draws."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def derive_seed(*words: str | int) -> int:
    """Return a seed in [0, 2^63) that depends on the words alone (SHA-256 of their JSON)."""
    digest = hashlib.sha256(json.dumps(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*words: str | int) -> np.random.Generator:
    """Return a fresh SFC64 generator seeded by :func:`derive_seed` of the words."""
    return np.random.Generator(np.random.SFC64(derive_seed(*words)))
