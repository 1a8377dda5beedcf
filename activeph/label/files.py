"""Labels made elsewhere: structures are laid out as files, and the campaign waits until results are brought back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from pydantic import Field

from activeph.errors import InputError, LabelFailed, Paused
from activeph.identity import aligned, configuration_key, matching_order
from activeph.label.fingerprint import settings_fingerprint
from activeph.label.result_files import RESULT_NAMES, read_result
from activeph.records import Configuration, Label
from activeph.section import OutputPath, Section

FAILED_NAME = "failed.txt"


class FilesLabeler(Section):
    """Writes one directory per configuration below ``directory`` and reads the result that somebody puts there.

    A directory holds ``structure.extxyz`` and ``POSCAR``. A result is any of the files of
    :data:`activeph.label.result_files.RESULT_NAMES`; a ``failed.txt`` says that there will be none, and why. A torn
    file, or the result of another structure, pauses the campaign.
    """

    kind: Literal["files"] = "files"
    directory: OutputPath
    """Where the directories are made."""
    name: str = Field(min_length=1)
    """What the results are results of, such as ``hse06-site-workflow-2``: another name, other labels."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the name."""
        return settings_fingerprint(self, exclude={"directory"})

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where directories cannot be made."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"label.directory must be a directory to write to but got {str(self.directory)!r} ({error.strerror}); "
                "correct it."
            ) from error

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the result that is there. Raises Paused while there is none, LabelFailed where there will be none."""
        self.check(configuration)
        place = self.directory / configuration_key(configuration)[:16]
        _write_structure(place, configuration)
        if (place / FAILED_NAME).exists():
            raise LabelFailed("crashed", (place / FAILED_NAME).read_text().strip() or "no reason given")
        result = next((place / name for name in RESULT_NAMES if (place / name).exists()), None)
        if result is None:
            raise Paused(f"a result is awaited in {place}: put one of {', '.join(RESULT_NAMES)} there, then run again.")
        found = _read(result)
        if matching_order(found.configuration, configuration) is None:
            raise InputError(f"{result} must be the result of structure.extxyz beside it but got another structure.")
        unknown: dict[str, str | None] = dict.fromkeys(("code", "code_version", "scf_iterations", "wall_time"))
        own = {"fingerprint": self.fingerprint, "settings": {"kind": self.kind, "name": self.name}}
        provenance = {**unknown, **found.provenance, **own}
        return dataclasses.replace(aligned(found, configuration), provenance=provenance)


def _read(result: Path) -> Label:
    """Return a result. Raises Paused where the file is torn, as it is while somebody copies it, else LabelFailed."""
    try:
        return read_result(result)
    except LabelFailed as error:
        if error.kind != "crashed":
            raise
        raise Paused(
            f"{result} must be a whole result but got {error.message.rstrip('.')}; copy it again, or put {FAILED_NAME} "
            "there, then run again."
        ) from error


def _write_structure(place: Path, configuration: Configuration) -> None:
    from ase import Atoms
    from ase.io import write

    if (place / "POSCAR").exists():
        return
    place.mkdir(exist_ok=True)
    atoms = Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
    write(place / "structure.extxyz", atoms, format="extxyz")
    write(place / "POSCAR", atoms, format="vasp", direct=False, sort=False)
