"""Labels that are known already: a file plays the code, so that selection can be studied for nothing."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from activeph.errors import LabelFailed
from activeph.identity import aligned, configuration_key
from activeph.label.fingerprint import settings_fingerprint
from activeph.label.frames import modification_time, read_frames
from activeph.records import Configuration, Label
from activeph.section import InputPath, Section


class ReplayLabeler(Section):
    """Looks configurations up in labelled files. Give the same files to ``sample: {kind: replay}``."""

    kind: Literal["replay"] = "replay"
    files: tuple[InputPath, ...] = Field(min_length=1, strict=False)
    """One file or several: extended XYZ, ASE databases, anything that ASE reads with energies."""

    @field_validator("files", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the files' contents; moving them changes nothing."""
        hashes = [_hash(path, modification_time(path)) for path in self.files]
        return settings_fingerprint(self, exclude={"files"}, files=hashes)

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where a file is missing or holds no labels."""
        self._index()

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the stored label. Raises LabelFailed (``missing``) where the files do not have the configuration."""
        found = self._index().get(configuration_key(configuration))
        if found is None:
            names = ", ".join(path.name for path in self.files)
            raise LabelFailed("missing", f"no structure of {names} is the wanted configuration")
        provenance = {
            "code": "replay",
            "code_version": None,
            "fingerprint": self.fingerprint,
            "settings": {"kind": self.kind, "files": [path.name for path in self.files]},
            "scf_iterations": None,
            "wall_time": 0.0,
            **found.provenance,
        }
        return dataclasses.replace(aligned(found, configuration), provenance=provenance)

    def _index(self) -> Mapping[str, Label]:
        labels: dict[str, Label] = {}
        for path in reversed(self.files):  # the first file wins where two know a configuration
            labels |= _by_key(read_frames(path))
        return labels


@functools.lru_cache(maxsize=8)
def _hash(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=8)
def _by_key(labels: tuple[Label, ...]) -> Mapping[str, Label]:
    return {configuration_key(label.configuration): label for label in reversed(labels)}
