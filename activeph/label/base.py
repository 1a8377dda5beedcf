"""The seam between the ledger and every electronic-structure code."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from activeph.records import Configuration, Label


class Labeler(Protocol):
    """Runs one code on one configuration. Picklable: it works in another process or on another machine."""

    kind: str

    @property
    def fingerprint(self) -> str:
        """12 hex digits: a hash of everything that can change the answer (settings, code and its version)."""
        ...

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where a configuration cannot be treated at all: unknown element, missing file or program."""
        ...

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the label; files it wants to keep go to ``workdir``. Raises LabelFailed where there is no answer."""
        ...
