"""Labels that are known already: a file plays the code, so that selection can be studied for nothing."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from activeph.errors import InputError, LabelFailed
from activeph.identity import SAME_POSITION, aligned, configuration_key, matching_order
from activeph.label.fingerprint import settings_fingerprint
from activeph.label.frames import modification_time
from activeph.label.result_files import read_results
from activeph.records import Configuration, Label
from activeph.section import InputPath, Section


class ReplayLabeler(Section):
    """Looks configurations up in labelled files. Give the same files to ``sample: {kind: replay}``."""

    kind: Literal["replay"] = "replay"
    files: tuple[InputPath, ...] = Field(min_length=1, strict=False)
    """One file or several: extended XYZ, ASE databases, anything that ASE reads with energies. Calculations of which
    VASP or pw.x says there that they did not converge are passed over."""

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
        index = self._index()
        found = index.get(configuration_key(configuration)) or _rounded(index.values(), configuration)
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
            labels |= _by_key(tuple(one for one in _results(path) if isinstance(one, Label)))
        return labels


def _results(path: Path) -> tuple[Label | LabelFailed, ...]:
    try:
        return read_results(path)
    except LabelFailed as error:
        raise InputError(
            f"{path} must hold labels but got a calculation that gave none ({error.message}); leave it out."
        ) from error


def _rounded(labels: Iterable[Label], configuration: Configuration) -> Label | None:
    """Return the label whose configuration differs only by the decimals that a file keeps, None where there is none.

    Round-off of 1e-8 Å now and then changes a key. A displacement of one atom tells most labels apart at once.
    """
    inverse = np.linalg.inv(configuration.cell)
    for label in labels:
        stored = label.configuration
        if not np.array_equal(stored.numbers, configuration.numbers):
            continue
        moved = configuration.positions[:2] - stored.positions[:2]
        fraction = (moved - moved[:1]) @ inverse
        if np.abs((fraction - np.round(fraction)) @ configuration.cell).max(initial=0.0) > SAME_POSITION:
            continue
        if matching_order(stored, configuration) is not None:
            return label
    return None


@functools.lru_cache(maxsize=8)
def _hash(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=8)
def _by_key(labels: tuple[Label, ...]) -> Mapping[str, Label]:
    return {configuration_key(label.configuration): label for label in reversed(labels)}
