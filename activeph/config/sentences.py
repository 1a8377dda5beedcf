"""Turns what pydantic found wrong into one sentence: place, key, what was expected, "but got" the value, the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from activeph.document import Mapping, Mark, Sequence, short
from activeph.errors import InputError
from activeph.role import Role, expand
from activeph.section import Section

Location = tuple[int | str, ...]

EXPECTED = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be an integer of fewer digits",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_short": "must have {min_length} items or more",
    "too_long": "must have {max_length} items or fewer",
    "activeph": "{expected}",
}


def sentence(error: ValidationError, root: Mapping, section: type[Section]) -> str:
    """Return the sentence for the first thing wrong in the file that holds ``root``."""
    errors = error.errors(include_url=False)
    outer = {item["loc"][:length] for item in errors for length in range(len(item["loc"]))}
    # a list that lost its wrong items is too short as well: the items are what to mend
    details = [_Wrong(item, root, section) for item in errors if item["loc"] not in outer]
    return min(details, key=lambda wrong: wrong.order(root.mark.file)).sentence()


class _Wrong:
    """One error with its place in the document and in the schema."""

    def __init__(self, error: ErrorDetails, root: Mapping, section: type[Section]) -> None:
        self.error = error
        location = error["loc"] + error.get("ctx", {}).get("key", ())
        self.is_written = not location or location[0] in root
        self.key, self.mark, self.owner, self.field = _walk(location, root, section)

    def order(self, file: Path) -> tuple[bool, bool, int, bool]:
        """Return what the errors of a file are told by: what is written before what is not, then line by line.

        A misspelt key comes before the missing one that it was meant to be.
        """
        kind = self.error["type"]
        is_default = not self.is_written and kind != "missing"
        return is_default, self.mark.file != file, self.mark.line, kind != "extra_forbidden"

    def sentence(self) -> str:
        kind, value = self.error["type"], self.error["input"]
        ctx = self.error.get("ctx", {})
        if kind == "activeph_sentence":
            return f"{self.mark}: {self.key}: {ctx['sentence']}"
        if kind == "value_error":
            return f"{self.mark}: {self.key}: {ctx['error']}"
        if kind == "missing":
            return f"{self.mark}: {self.key} must be given but got nothing; add it, meaning: {self._meaning()}"
        if kind == "extra_forbidden":
            return f"{self.mark}: {self._unknown_key()}"
        expected = EXPECTED[kind].format(**_plain_numbers(ctx)) if kind in EXPECTED else _generic(self.error["msg"])
        got = ctx.get("got", short(value))
        return f"{self.mark}: {self.key} {expected} but got {got}; {self._remedy(ctx, value)}"

    def _remedy(self, ctx: AnyMapping[str, Any], value: object) -> str:
        if "remedy" in ctx:
            return str(ctx["remedy"])
        meaning = f"meaning: {self._meaning()}"
        if self.error["type"] == "string_type" and isinstance(value, int | float):
            return f"put it in quotes; {meaning}"
        wants_number = self.error["type"] in ("float_type", "int_type")
        if wants_number and isinstance(value, str) and re.match(r"\s*[-+.\d]", value):
            return f"write the number alone, without unit or quotes; {meaning}"
        return meaning

    def _unknown_key(self) -> str:
        *parents, name = self.error["loc"]
        keys = list(self.owner.model_fields) if self.owner else []
        close = difflib.get_close_matches(str(name), keys, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "remove it"
        place = self.key.rpartition(".")[0] or "the campaign file"
        return f"{place} must have no other keys than {', '.join(keys)} but got {short(str(name))}; {remedy}"

    def _meaning(self) -> str:
        if self.field is None:
            return "see 'activeph schema'"
        text = plain(self.field.description or "see 'activeph schema'")
        if text[1:2].islower():
            text = text[0].lower() + text[1:]
        default = self.field.default
        shown = isinstance(default, int | float | str) and default != "" and "default" not in text
        return text + (f" (default {default})" if shown else "")


def plain(docstring: str) -> str:
    """Return a docstring as one line without markup and full stop."""
    return " ".join(docstring.replace("``", "'").replace("`", "'").split()).rstrip(".")


def _plain_numbers(ctx: AnyMapping[str, Any]) -> dict[str, Any]:
    return {key: int(item) if isinstance(item, float) and item.is_integer() else item for key, item in ctx.items()}


def _generic(message: str) -> str:
    return (
        message.replace("Input should ", "must ", 1) if message.startswith("Input should ") else f"is wrong: {message}"
    )


def _walk(
    location: Location, root: Mapping, section: type[Section]
) -> tuple[str, Mark, type[Section] | None, FieldInfo | None]:
    """Follow an error's location through document and schema at once.

    Returns the dotted key, the nearest place in a file, the section that owns the last key, and its field.
    """
    value: Any = root
    owner: type[Section] | None = section
    inside: Any = section
    field: FieldInfo | None = None
    mark, words = root.mark, ""
    for step in location:
        if step == "[key]":  # pydantic's word for "the key itself"
            break
        value, inside = _open(value, inside)
        if isinstance(value, Mapping | Sequence):
            mark = value.marks.get(step, mark)
        words += f"[{step}]" if isinstance(step, int) else f".{step}"
        owner, field, inside = _descend(inside, step, owner, field)
        value = _item(value, step)
    return words.removeprefix("."), mark, owner, field


def _open(value: Any, inside: Any) -> tuple[Any, Any]:
    """Expand includes and replace a role by the class that the value names."""
    if not isinstance(inside, Role):
        return value, inside
    try:
        value = expand(value)
        return value, inside.section_class(value)
    except (InputError, PydanticCustomError):
        return value, None


def _item(value: Any, step: int | str) -> Any:
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None


def _descend(
    inside: Any, step: int | str, owner: type[Section] | None, field: FieldInfo | None
) -> tuple[type[Section] | None, FieldInfo | None, Any]:
    """Return the owning section, the field and what lies inside after one step of a location."""
    if isinstance(inside, type) and issubclass(inside, Section):
        field = inside.model_fields.get(str(step))
        roles = [item for item in field.metadata if isinstance(item, Role)] if field else []
        return inside, field, roles[0] if roles else (field.annotation if field else None)
    arguments = [item for item in get_args(inside) if item is not Ellipsis]
    return owner, field, arguments[-1] if arguments else None


def place(location: Location, root: Mapping, section: type[Section]) -> Mark:
    """Return where a key, or else its nearest parent, stands."""
    return _walk(location, root, section)[1]
