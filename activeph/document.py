"""Reads a YAML file into plain values that remember file and line, so that every later complaint can name them.

Scalars follow YAML 1.2: ``1e-3`` is a number, ``yes`` and ``24:00:00`` are words. Keys are always words. Tags,
duplicate keys, endless anchors and files that cannot be campaign files are refused with one sentence.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from activeph.errors import InputError
from activeph.section import SourceText

MOST_BYTES = 200_000  # a campaign file has a few kB; parsing more than this would keep the user waiting
MOST_VALUES = 20_000  # anchors can make a short file expand without end
DEEPEST = 40


class Mark(NamedTuple):
    """Where a value begins."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"


def shown(path: Path) -> str:
    """Return ``path`` as a user would type it: relative to the current folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


class Mapping(dict[str, Any]):
    """A YAML mapping with the place of each of its keys."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marks: dict[str | int, Mark] = {}


class Sequence(list[Any]):
    """A YAML sequence with the place of each of its items."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marks: dict[str | int, Mark] = {}


class _Loader(yaml.SafeLoader):
    """Composes nodes with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def read_document(path: Path) -> Mapping:
    """Return the mapping that the file holds. Raises InputError, naming file and line, where it holds none."""
    text = _read_text(path)
    try:
        _refuse_depth(path, text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise InputError(_yaml_sentence(path, text, error)) from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{shown(path)} must be YAML text but got {reason}; remove that character") from None
    if node is None:
        raise InputError(
            f"{shown(path)} must hold a mapping of keys to values but got an empty file; write one with 'activeph init'"
        )
    value = _Construction(path, path.parent).value(node, 0)
    if not isinstance(value, Mapping):
        raise InputError(
            f"{shown(path)}:{node.start_mark.line + 1} must hold a mapping of keys to values but got {short(value)}; "
            "write one 'key: value' per line"
        )
    return value


def _refuse_depth(path: Path, text: str) -> None:
    """Refuse deep nesting before it is composed, which needs a deeper stack than Python may have left."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise InputError(f"{shown(path)}:{line} must nest at most {DEEPEST} levels but got more; flatten it")


def _read_text(path: Path) -> str:
    try:
        facts = os.stat(path)
        if stat.S_ISDIR(facts.st_mode):
            raise InputError(f"{shown(path)} must be a file but got a folder; name the campaign file inside it")
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"{shown(path)} must be a file but got a device or a pipe; save it to a file first")
        if facts.st_size > MOST_BYTES:
            raise InputError(
                f"{shown(path)} must be at most {MOST_BYTES // 1000} kB but got {facts.st_size / 1000:.0f} kB; "
                "is it a campaign file?"
            )
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(path)} must be UTF-8 text but got byte 0x{error.object[error.start]:02x} at {error.start}; "
            "is it a campaign file?"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown(path)} must be a readable file but got {reason!r}; check the path") from None


def _yaml_sentence(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    lines = text.splitlines()
    line = lines[number - 1] if number <= len(lines) else ""
    place = f"{shown(path)}:{number}"
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(error.problem):
        return f"{place} must be indented by spaces but got a tab; replace every tab by spaces"
    problem = " ".join(str(error.problem or error.context).split())
    got = f"{short(line.strip())} ({problem})" if line.strip() else f"the end of the file ({problem})"
    return f"{place} must be YAML but got {got}; check indentation, colons, brackets and quotes"


def short(value: object) -> str:
    """Return ``value`` as it may stand in a sentence: one line of at most 60 characters."""
    if isinstance(value, str):
        text = repr(str(value))
    elif value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = _plain(value)
    return text if len(text) <= 60 else text[:50] + "…" + text[-1]


def _plain(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of more than 4300 digits
        return "a number of thousands of digits"


@dataclass
class _Construction:
    """Turns the nodes of one file into values."""

    file: Path
    folder: Path
    n_values: int = 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        self.n_values += 1
        mark = Mark(self.file, node.start_mark.line + 1)
        if depth > DEEPEST or self.n_values > MOST_VALUES:
            raise InputError(
                f"{mark} must hold at most {MOST_VALUES} values in {DEEPEST} levels but got more; "
                "remove anchors that repeat one another"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, mark, depth)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, mark, depth)
        return self._scalar(node, mark)

    def _mapping(self, node: yaml.MappingNode, mark: Mark, depth: int) -> Mapping:
        self._plain_tag(node, mark, "map")
        mapping = Mapping(mark)
        for key_node, value_node in node.value:
            key_mark = Mark(self.file, key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{key_mark} must have words as keys but got a list or mapping as key; quote the key")
            key = str(key_node.value)
            if key in mapping:
                first = mapping.marks[key].line
                raise InputError(
                    f"{key_mark}: {key!r} must be given once but got it here and in line {first}; remove or rename one"
                )
            mapping[key] = self.value(value_node, depth + 1)
            mapping.marks[key] = key_mark
        return mapping

    def _sequence(self, node: yaml.SequenceNode, mark: Mark, depth: int) -> Sequence:
        self._plain_tag(node, mark, "seq")
        sequence = Sequence(mark)
        for index, item in enumerate(node.value):
            sequence.append(self.value(item, depth + 1))
            sequence.marks[index] = Mark(self.file, item.start_mark.line + 1)
        return sequence

    def _scalar(self, node: yaml.Node, mark: Mark) -> Any:
        tag, text = str(node.tag).removeprefix("tag:yaml.org,2002:"), str(node.value)
        try:
            if tag == "int":
                return int(text)
            if tag == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            raise InputError(f"{mark} must be a number but got {short(text)}; write fewer digits or quotes") from None
        if tag in ("str", "null", "bool"):
            return {"null": None, "bool": text.lower() == "true"}.get(tag, SourceText(text, self.folder))
        raise InputError(f"{mark} must be a plain value but got the tag {short(node.tag)}; remove the tag")

    def _plain_tag(self, node: yaml.Node, mark: Mark, expected: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{expected}":
            raise InputError(f"{mark} must be a plain value but got the tag {short(node.tag)}; remove the tag")
