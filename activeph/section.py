"""The base of every part of a campaign file: typed, strict, frozen, and at the same time the object that does the work.

A sampler, model, selector, labeler or executor *is* its own configuration: a frozen pydantic model whose fields are
the keys a user may write and whose methods fulfil the seam. It is therefore picklable and comparable by content.

A field that names a file or folder to read is annotated ``InputPath``: a relative path counts from the file that the
user wrote it in, is absolute afterwards, and must exist. ``data: InputPath | None = None`` works as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """One mapping of the campaign file. Unknown keys are refused; values are never coerced from other types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def content_hash(self) -> str:
        """Return 12 hex digits that change when any field changes."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class SourceText(str):
    """A string of a campaign file that remembers the folder of that file."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> SourceText:
        """Attach ``folder`` to ``text``."""
        instance = super().__new__(cls, text)
        instance.folder = folder
        return instance

    def __reduce__(self) -> tuple[type[SourceText], tuple[str, Path]]:
        return SourceText, (str(self), self.folder)


def wrong_value(
    expected: str, remedy: str, got: str | None = None, key: tuple[str | int, ...] = ()
) -> PydanticCustomError:
    """Return the error a validator raises: "<key> <expected> but got <value>; <remedy>".

    ``got`` is said instead of the value where the value itself does not tell. ``key`` is that of the value to mend,
    counted from the section that is validated, where several keys contradict one another.
    """
    ctx: dict[str, object] = {"expected": expected, "remedy": remedy, "key": key}
    ctx |= {} if got is None else {"got": got}
    return PydanticCustomError("activeph", "{expected}; {remedy}", ctx)


def absolute_path(value: object) -> Path:
    """Return an absolute path, relative ones counted from the file they stand in."""
    if not isinstance(value, str | Path) or not str(value):
        raise wrong_value("must be the path of a file", "write it relative to the file it stands in")
    return Path(os.path.abspath(os.path.join(getattr(value, "folder", ""), os.path.expanduser(value))))


def existing_path(value: object) -> Path:
    """Return the absolute path of an existing file; the validator behind :data:`InputPath`."""
    path = absolute_path(value)
    if not os.path.exists(path):
        raise wrong_value("must be the path of an existing file", f"there is no {str(path)!r}")
    return path


InputPath = Annotated[Path, BeforeValidator(existing_path)]
"""A file or folder that must exist; absolute after validation."""
OutputPath = Annotated[Path, BeforeValidator(absolute_path)]
"""A file or folder that is made where it does not exist; absolute after validation."""
