"""The run directory: one place that names every file of a campaign, and how files become true."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from activeph.errors import InputError


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one campaign's files. Nothing is created by asking for a path."""

    root: Path

    @property
    def campaign(self) -> Path:
        """The resolved campaign file."""
        return self.root / "campaign.yaml"

    @property
    def journal(self) -> Path:
        """The append-only record of finished steps."""
        return self.root / "journal.jsonl"

    @property
    def stopped(self) -> Path:
        """Why the last driver stopped before the end; absent while one runs and after the end."""
        return self.root / "stopped.txt"

    @property
    def labels(self) -> Path:
        """The ledger's directory."""
        return self.root / "labels"

    @property
    def pack(self) -> Path:
        """A copy of what training reads of the labels; it may be deleted and is made again."""
        return self.root / "labels.pack"

    @property
    def report(self) -> Path:
        """Pictures and tables."""
        return self.root / "report"

    @property
    def truth(self) -> Path:
        """Targets of the test set."""
        return self.root / "test" / "truth.npz"

    @property
    def preparation(self) -> Path:
        """Labels of the preparation that every arm trains on; absent where there are none."""
        return self.root / "preparation.json"

    @property
    def systems(self) -> Path:
        """What is computed of crystals before the first round, from files and labels."""
        return self.root / "systems"

    def system(self, name: str) -> Path:
        """Force constants of one system, readable by phonopy."""
        return self.systems / name / "phonopy_params.yaml"

    def round(self, arm: str, repeat: int, number: int) -> Path:
        """Directory of one round of one repeat of an arm."""
        return self.root / "arms" / arm / f"repeat-{repeat}" / f"round-{number:03d}"

    def member(self, arm: str, repeat: int, number: int, member: int) -> Path:
        """State of one trained member."""
        return self.round(arm, repeat, number) / f"member-{member}.pt"

    def selection(self, arm: str, repeat: int, number: int) -> Path:
        """What one round chose, and what was set aside."""
        return self.round(arm, repeat, number) / "selection.json"

    def metrics(self, arm: str, repeat: int, number: int) -> Path:
        """Errors of one round on the test set."""
        return self.round(arm, repeat, number) / "metrics.json"

    def predictions(self, arm: str, repeat: int, number: int) -> Path:
        """What the ensemble of one round says of the test set."""
        return self.round(arm, repeat, number) / "test_predictions.npz"


def refuse_without_campaign(directory: RunDirectory) -> None:
    """Raise InputError where a run has a journal but nothing tells any more what it was begun with."""
    if directory.journal.exists() and not directory.campaign.exists():
        raise InputError(
            f"{directory.campaign} must be there, with all that the run was begun with, but got none; restore it from "
            f"a copy, or start anew with another --output and 'ledger: {directory.labels}' that pays no label twice"
        )


def read_resolved(path: Path) -> dict[str, Any]:
    """Return the resolved campaign of a run directory. Raises InputError where the file holds none."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} must be a resolved campaign but got {error.strerror!r}; is it a run directory?"
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InputError(f"{path} must be a resolved campaign but got no YAML{where}; restore it from a copy") from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path} must be a resolved campaign but got {got}; is this a run directory?")
    return content


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is either absent, old or complete: beside, fsync, rename.

    Raises OSError, with the file's name, where the file system refuses; then nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON by :func:`write_bytes`."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write an npz file by :func:`write_bytes`."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_bytes(path, stream.getvalue())
