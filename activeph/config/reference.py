"""The keys of a campaign file as text for people: what each means and what it is by default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from activeph.config.schema import Campaign
from activeph.config.sentences import plain
from activeph.kinds import BUILT_IN, known_kinds, load_kind
from activeph.role import Role
from activeph.section import Section

WIDTH = 110


def reference() -> str:
    """Return all keys of a campaign file, then all kinds of each role with their keys."""
    lines = ["THE CAMPAIGN FILE", *_keys(Campaign, 0)]
    for role in BUILT_IN:
        lines += ["", f"KINDS OF {role.upper()}"]
        for kind in known_kinds(role):
            try:
                section = load_kind(role, kind)
            except ImportError:  # a plug-in whose own needs are not installed
                continue
            summary = plain((section.__doc__ or "").split("\n\n")[0])
            lines += _wrapped(f"kind: {kind}", summary, 0)
            lines += [line for line in _keys(section, 1) if not line.startswith("  kind")]
    return "\n".join(lines)


def _keys(section: type[Section], depth: int) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield from _wrapped(name + _default(field), plain(field.description or ""), depth)
        inner = _inner(field)
        if inner is None:
            continue
        is_named = get_origin(field.annotation) is dict
        if is_named:
            yield f"{'  ' * (depth + 1)}<name>:"
        yield from _keys(inner, depth + 1 + is_named)


def _default(field: FieldInfo) -> str:
    """Return how the default is written behind the key."""
    if field.is_required():
        return ":" if "default:" in (field.description or "") else ": (required)"
    value: Any = next((role.default for role in field.metadata if isinstance(role, Role)), None) or field.default
    if value is PydanticUndefined or isinstance(value, Section) or value in ("", (), {}):
        return ":"
    return f": {_word(value)}"


def _word(value: object) -> str:
    """Return a value as YAML has it; a diagonal supercell by its three repetitions."""
    if isinstance(value, tuple):
        is_matrix = len(value) == 3 and all(isinstance(row, tuple) for row in value)
        items = [row[i] for i, row in enumerate(value)] if is_matrix else value
        return f"[{', '.join(map(_word, items))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _inner(field: FieldInfo) -> type[Section] | None:
    """Return the section whose keys stand below a key, if it is not of any kind."""
    if any(isinstance(item, Role) for item in field.metadata):
        return None
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _wrapped(key: str, meaning: str, depth: int) -> list[str]:
    start = f"{'  ' * depth}{key}  "
    text = textwrap.wrap(meaning, WIDTH - 34) or [""]
    first = f"{start:<34}{text[0]}" if len(start) <= 34 else f"{start.rstrip()}\n{'':34}{text[0]}"
    return [first.rstrip(), *(f"{'':34}{line}" for line in text[1:])]
