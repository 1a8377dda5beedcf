"""The name of everything that can change an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from activeph.section import Section

DEFINITIONS = 1
"""Raised when the meaning of a quantity in a label changes (band edges, sign of the stress)."""


def settings_fingerprint(section: Section, exclude: Collection[str] = (), **facts: Any) -> str:
    """Return 12 hex digits of the section's fields and of further facts (code version, hashes of files).

    ``exclude`` names fields that say how to run and not what to compute: commands, numbers of cores, directories.
    """
    settings = section.model_dump(mode="json", exclude=set(exclude))
    text = json.dumps({"settings": settings, "facts": facts, "definitions": DEFINITIONS}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
