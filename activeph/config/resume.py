"""The resolved campaign file of a run directory, and what may change in it between two starts of the same run."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

import activeph
from activeph.config.schema import Campaign
from activeph.document import short, shown
from activeph.errors import InputError
from activeph.rundir import RunDirectory, read_resolved, refuse_without_campaign, write_bytes
from activeph.section import Section

DISTRIBUTIONS = (
    "ase", "e3nn", "mace-torch", "modAL-python", "numpy", "phonopy", "pydantic", "scikit-learn", "scipy", "spglib",
    "symfc", "tblite", "torch", "torch-geometric",
)  # fmt: skip
"""Packages that can change a number."""

MAY_GROW = ("budget.labels", "budget.repeats")
FOLLOW = ("budget.initial", "budget.batch")
"""Keys whose defaults follow ``budget.labels``, so that they may change where nobody wrote them."""
LABELER = "fingerprint"
"""Key of what tells the labeler's settings, code and data files; not in runs of older versions."""
MAY_CHANGE = ("execute.", "budget.target_error", "budget.core_hours", "name")


@dataclass(frozen=True)
class Difference:
    """One key that two resolved campaigns disagree on; ``None`` stands for a key that is not there."""

    key: str
    old: Any
    new: Any

    @property
    def allowed(self) -> bool:
        """Whether a run may go on with the new value: nothing finished depends on it."""
        if self.key == LABELER:
            return self.old is None
        if self.key in MAY_GROW:
            return isinstance(self.old, int) and isinstance(self.new, int) and self.new >= self.old
        return self.key.startswith(MAY_CHANGE)


def open_run(campaign: Campaign, directory: RunDirectory) -> Campaign:
    """Write the resolved campaign of a new run, or check that an old run may go on with it; return the campaign.

    As long as nothing was chosen, everything may change: what was computed of the crystals is made again from the
    labels, which stay. Raises InputError where a run that chose something was begun with something else, or nobody
    knows any more with what.
    """
    refuse_without_campaign(directory)
    new = resolved(campaign)
    if directory.campaign.exists():
        refused = _refused(_completed(read_resolved(directory.campaign), campaign), new)
        if refused and directory.journal.exists():
            raise InputError(_refusal(refused[0], directory))
        if refused and directory.systems.exists():
            shutil.rmtree(directory.systems)
    write_bytes(directory.campaign, yaml.safe_dump(new, sort_keys=False, allow_unicode=True).encode())
    return campaign


def _refused(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Return the differences that change something. How labels are computed may change as long as they stay the same:
    a labeler's commands, cores and time limits are not in its fingerprint.
    """
    refused = [change for change in differences(old, new) if not change.allowed]
    if old.get(LABELER) != new[LABELER]:
        return sorted(refused, key=lambda change: change.key == LABELER)  # the keys that changed it tell more
    of_labelers = ("label.", "files.label.", "low_fidelity.", "files.low_fidelity.")
    return [change for change in refused if not change.key.startswith(of_labelers)]


def resolved(campaign: Campaign) -> dict[str, Any]:
    """Return every key with its value, the contents of the input files as hashes, the versions in use, and the
    labeler's fingerprint.

    Folders can be huge and are left to that fingerprint, which knows the codes and what was read there.
    """
    values = json.loads(campaign.model_dump_json())
    files = {key: _digest(path) for key, path in _paths(campaign.model_dump()) if path.is_file()}
    return {**values, "files": files, "versions": versions(), LABELER: _fingerprint(campaign)}


def _fingerprint(campaign: Campaign) -> str:
    cheap = campaign.low_fidelity
    return campaign.label.fingerprint + (f"+{cheap.fingerprint}" if cheap else "")


def versions() -> dict[str, str]:
    """Return the version of everything that can change a number. Imports nothing."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "activeph": activeph.__version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Return the keys that differ. A file that moved but holds the same is no difference."""
    before, after = dict(_flat(old)), dict(_flat(new))
    moved = {key.removeprefix("files.") for key in before if key.startswith("files.") and before[key] == after.get(key)}
    keys = [key for key in {**before, **after} if key not in moved]
    return [Difference(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def _completed(old: Any, new: Any) -> Any:
    """Return what a run was begun with, keys that its version did not know at the defaults they have today.

    ``new`` is the part of the present campaign that ``old`` is compared with: a key that came later is left at what
    makes nothing differ, unless somebody writes another value. Of another kind nothing is known.
    """
    if isinstance(old, list) and isinstance(new, tuple):
        return [*map(_completed, old, new), *old[len(new) :]]
    if not isinstance(old, Mapping) or not isinstance(new, Mapping | Section):
        return old
    parts = new if isinstance(new, Mapping) else {name: getattr(new, name) for name in type(new).model_fields}
    known = {name: _completed(item, parts.get(name)) for name, item in old.items()}
    if isinstance(new, Mapping) or old.get("kind") != parts.get("kind"):
        return known
    try:  # what follows from other keys of the section follows them again
        bare = type(new).model_validate({name: part for name, part in parts.items() if name in old})
    except ValidationError:  # it must be written
        return known
    return known | {name: value for name, value in json.loads(bare.model_dump_json()).items() if name not in old}


def check_same_crystal(campaign: Campaign, name: str, directory: RunDirectory) -> None:
    """Raise InputError where the run was begun with another system of that name, or with another labeler.

    What a run has computed of a crystal, such as its force constants, belongs to both.
    """
    old, new = _of_system(read_resolved(directory.campaign), name), _of_system(resolved(campaign), name)
    sections = {section.name: section for section in campaign.systems}
    old = _completed(old, {"label": campaign.label, "systems": sections})
    changes = sorted(differences(old, new), key=lambda change: not change.key.startswith("files."))
    if changes:  # other content tells more than the other path that came with it
        raise InputError(_refusal(changes[0], directory))


def _of_system(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the part of a resolved campaign that concerns one system and its labels, with the system's name as key."""
    found: dict[str, Any] = {"label": values.get("label"), "systems": {}, "files": {}}
    for index, system in enumerate(values.get("systems", [])):
        if system.get("name") == name:
            found["systems"][name] = system
            old, new = f"systems.{index}.", f"systems.{name}."
            digests = values.get("files", {}).items()
            found["files"] = {new + key.removeprefix(old): item for key, item in digests if key.startswith(old)}
    found["files"] |= {key: item for key, item in values.get("files", {}).items() if key.startswith("label.")}
    return found


def _refusal(change: Difference, directory: RunDirectory) -> str:
    if change.key.startswith("versions."):
        package = change.key.removeprefix("versions.")
        return (
            f"{shown(directory.root)} must go on with {package} {change.old} but got {change.new}; "
            "install that version, or start anew with another --output"
        )
    if change.key == LABELER:
        return (
            f"{shown(directory.root)} must go on with the labeler that it was begun with but got another version of "
            "its code or other data files; restore them, or start anew with another --output"
        )
    if change.key.startswith("files."):
        return (
            f"the file under {change.key.removeprefix('files.')} must stay what {shown(directory.root)} was begun with "
            "but got other content; restore it, or start anew with another --output"
        )
    remedy = "it may be raised only" if change.key in MAY_GROW else "restore it"
    if change.key in FOLLOW:
        remedy = f"write '{change.key.removeprefix('budget.')}: {short(change.old)}'"
    return (
        f"{change.key} must stay {short(change.old)}, as {shown(directory.root)} was begun with, but got "
        f"{short(change.new)}; {remedy}, or start anew with another --output"
    )


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves with dotted keys; lists count as leaves unless they hold mappings."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{key}.{index}")
    else:
        yield key, value


def _paths(value: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths(item, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _paths(item, f"{key}.{index}")


def _digest(path: Path) -> str:
    """Return 12 hex digits of what a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
