"""Sections whose class is named by ``kind``: ``{kind: phonon, ...}``, the word ``phonon``, or a file holding one."""

from __future__ import annotations

import os
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from activeph.document import Mapping, read_document
from activeph.errors import InputError
from activeph.kinds import known_kinds, load_kind
from activeph.section import Section, SourceText, wrong_value

DEEPEST_INCLUDE = 5
ROLE_KEY = "x-activeph-role"  # marks a role in JSON schemas until it is replaced by a reference
DEFAULT_KEY = "x-activeph-default-kind"  # beside it: the kind of a mapping that names none


@dataclass(frozen=True)
class Role:
    """Annotation of a field that takes any section of a role, such as ``samplers``.

    A mapping without ``kind`` is of the kind ``default``; without a default, the kind must be written.
    """

    role: str
    default: str | None = None

    def validate(self, value: object) -> Section:
        """Return the section that ``value`` describes."""
        if isinstance(value, Section):
            return value
        try:
            return self.section_class(value := expand(value)).model_validate(value)
        except InputError as error:
            raise PydanticCustomError("activeph_sentence", "{sentence}", {"sentence": str(error)}) from None

    def section_class(self, value: object) -> type[Section]:
        """Return the class that an expanded value names."""
        kinds = f"kinds are {', '.join(known_kinds(self.role))}"
        if not isinstance(value, AnyMapping):
            raise wrong_value("must be a kind or a mapping with the key 'kind'", kinds)
        kind = value.get("kind", self.default)
        if not isinstance(kind, str):
            raise wrong_value("must have a word under the key 'kind'", kinds)
        try:
            return load_kind(self.role, str(kind))
        except ImportError as error:
            raise InputError(f"kind must name something installed but got {kind!r} ({error})") from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True)
        return core_schema.no_info_plain_validator_function(self.validate, serialization=dump)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {ROLE_KEY: self.role} | ({DEFAULT_KEY: self.default} if self.default else {})


def _dump(section: Section, info: SerializationInfo) -> dict[str, Any]:
    return section.model_dump(mode=info.mode)


def expand(value: object, depth: int = 0) -> object:
    """Return ``value`` with its file read, its ``include`` merged and a bare word made a mapping.

    Keys beside ``include`` override the included ones, key by key.
    """
    if depth > DEEPEST_INCLUDE:
        raise wrong_value(f"must include at most {DEEPEST_INCLUDE} files in one another", "do they include each other?")
    if isinstance(value, str):
        if value.endswith((".yaml", ".yml")):
            return expand(read_document(_beside(value)), depth + 1)
        return {"kind": value}
    if not isinstance(value, AnyMapping) or "include" not in value:
        return value
    if not isinstance(value["include"], str):
        raise wrong_value("must name one file under 'include'", "give the path of a YAML file")
    return _merged(expand(read_document(_beside(value["include"])), depth + 1), value)


def _beside(text: str) -> Path:
    return (text.folder if isinstance(text, SourceText) else Path.cwd()) / os.path.expanduser(text)


def _merged(base: Any, overrides: AnyMapping[str, Any]) -> Mapping:
    merged = Mapping(base.mark)
    merged.update(base)
    merged.marks.update(base.marks)
    own_marks = getattr(overrides, "marks", {})
    for key in overrides:
        if key != "include":
            merged[key] = overrides[key]
            merged.marks[key] = own_marks.get(key, base.mark)
    return merged
