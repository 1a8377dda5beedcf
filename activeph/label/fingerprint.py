"""The name of everything that can change an answer."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
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


def named_files(value: Any) -> dict[str, str]:
    """Return the SHA-256 of every file that a value names, at whatever depth, by the path written there.

    Words without a slash are no paths here, so that nothing depends on what lies in the working directory.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return {path: digest for one in value for path, digest in named_files(one).items()}
    if not isinstance(value, str) or "/" not in value or not os.path.isfile(value):
        return {}
    return {value: file_hash(Path(value))}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content; read again only when it has changed. Raises OSError."""
    return _file_hash(path.absolute(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_hash(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
