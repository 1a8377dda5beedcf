"""Types of single keys of a campaign file: names, temperatures, supercells."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from activeph.section import existing_path, wrong_value
from activeph.targets import TARGETS, WORDS

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Temperature = Annotated[float, Field(gt=0, le=10_000)]
Temperatures = Annotated[tuple[Temperature, ...], Field(strict=False, min_length=1)]


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise wrong_value("must be usable as a folder name", "use letters, digits and . _ + - only, 64 at most")
    return name


def folder_word(text: str) -> str:
    """Return a name made of ``text`` that is usable as a folder name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:64] or "unnamed"


Name = Annotated[str, AfterValidator(_folder_name)]


def _target_name(name: str) -> str:
    return _one_of([*TARGETS], name)


def _target_word(name: str) -> str:
    return _one_of([*TARGETS, *WORDS], name)


def _one_of(known: list[str], name: str) -> str:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise wrong_value(
            f"must be one of {', '.join(known)}", f"did you mean {close[0]!r}?" if close else "choose one of them"
        )
    return name


TargetName = Annotated[str, AfterValidator(_target_name), WithJsonSchema({"enum": list(TARGETS)})]
TargetWord = Annotated[str, AfterValidator(_target_word), WithJsonSchema({"enum": [*TARGETS, *WORDS]})]


def _as_matrix(value: object) -> object:
    """Turn three repetitions into a diagonal matrix; nested lists are left to the type check."""
    if isinstance(value, list | tuple) and any(isinstance(item, list | tuple) for item in value):
        return value
    if not isinstance(value, list | tuple) or len(value) != 3 or any(type(item) is not int for item in value):
        raise wrong_value(SUPERCELL, "write for example [2, 2, 2]")
    return [[n if i == j else 0 for j in range(3)] for i, n in enumerate(value)]


SUPERCELL = "must be three positive integers or a 3x3 integer matrix of determinant 1 to 1000"
Row = Annotated[tuple[int, int, int], Field(strict=False)]
Matrix = tuple[Row, Row, Row]


def _supercell(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if not 1 <= determinant <= 1000 or (b == c == d == f == g == h == 0 and min(a, e, i) < 1):
        raise wrong_value(SUPERCELL, "write for example [2, 2, 2]")
    return matrix


ROW_SCHEMA = {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}
Supercell = Annotated[
    Matrix,
    Field(strict=False),
    BeforeValidator(_as_matrix),
    AfterValidator(_supercell),
    WithJsonSchema({"anyOf": [ROW_SCHEMA, {**ROW_SCHEMA, "items": ROW_SCHEMA}]}),
]


def _file_or_labeler(value: object) -> object:
    return value if value == "from-labeler" else existing_path(value)


ForceConstants = Annotated[Literal["from-labeler"] | Path, BeforeValidator(_file_or_labeler)]
