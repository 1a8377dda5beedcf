"""The JSON schema of campaign files, with every kind that is installed."""

from __future__ import annotations

from typing import Any

from activeph.config.schema import Campaign
from activeph.kinds import BUILT_IN, known_kinds, load_kind
from activeph.role import DEFAULT_KEY, ROLE_KEY
from activeph.section import Section

INCLUDED = {"type": "string", "pattern": r"\.ya?ml$", "description": "File that holds the section."}


def campaign_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a campaign file, for completion and checks in editors."""
    definitions: dict[str, Any] = {}
    schema = _lifted(Campaign, definitions)
    for role in BUILT_IN:
        definitions[role] = _role(role, definitions)
    for named in (schema, definitions["SystemSection"]):
        named["required"] = [key for key in named["required"] if key != "name"]  # taken from the file's name
    schema["properties"]["systems"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/SystemSection"}]}
    schema |= {"$defs": definitions, "title": "activeph campaign"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_linked(schema)}


def _role(role: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return what a section of the role may be: a kind's name, a file, a file with changes, or a mapping."""
    kinds = []
    for kind in known_kinds(role):
        try:
            schema = _kind(role, kind, definitions)
        except ImportError:  # a plug-in whose own needs are not installed
            continue
        kinds.append({**schema, "required": ["kind", *schema["required"]]})
    changed = {"type": "object", "required": ["include"], "properties": {"include": INCLUDED}}
    return {"anyOf": [{"enum": known_kinds(role)}, *kinds, INCLUDED, changed]}


def _kind(role: str, kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return what a mapping of one kind holds; that it names its kind is not required."""
    schema = _lifted(load_kind(role, kind), definitions)
    schema["properties"]["kind"] = {"const": kind}
    schema["required"] = [key for key in schema.get("required", []) if key != "kind"]
    return schema


def _lifted(section: type[Section], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section; its own definitions join ``definitions``."""
    schema = section.model_json_schema()
    definitions.update(schema.pop("$defs", {}))
    return schema


def _linked(value: Any) -> Any:
    """Replace the marks that roles leave by references."""
    if isinstance(value, list):
        return [_linked(item) for item in value]
    if not isinstance(value, dict):
        return value
    linked = {key: _linked(item) for key, item in value.items() if key not in (ROLE_KEY, DEFAULT_KEY)}
    if ROLE_KEY not in value:
        return linked
    role, kind = value[ROLE_KEY], value.get(DEFAULT_KEY)
    if kind is None:
        return {**linked, "$ref": f"#/$defs/{role}"}
    unnamed = _linked(_kind(role, kind, {}))  # what it refers to is defined already, as the role lists every kind
    return {**linked, "default": kind, "anyOf": [{"$ref": f"#/$defs/{role}"}, unnamed]}
