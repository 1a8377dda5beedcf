from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from activeph.document import read_document, short
from activeph.section import SourceText


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2E+4", -2e4),
        ("+7", 7),
        ("010", 10),
        ("yes", "yes"),
        ("on", "on"),
        ("24:00:00", "24:00:00"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("'5'", "5"),
        ("5 Å", "5 Å"),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n")
    found = read_document(path)["key"]
    assert found == value
    assert isinstance(found, type(value))


def test_every_value_knows_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n\nb:\n  - x\n  - y: 2\n    z: 3\n")
    root = read_document(path)
    assert root.marks["b"] == (path, 3)
    assert root["b"].marks[1] == (path, 5)
    assert root["b"][1].marks["z"] == (path, 6)


def test_keys_are_words(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1: a\ntrue: b\n")
    assert list(read_document(path)) == ["1", "true"]


def test_text_remembers_the_folder_of_its_file_when_pickled() -> None:
    copy = pickle.loads(pickle.dumps(SourceText("a", Path("/x"))))
    assert copy == "a"
    assert copy.folder == Path("/x")


def test_values_are_short_in_sentences() -> None:
    assert short("a" * 100) == "'" + "a" * 49 + "…'"
    assert short(None) == "nothing"
    assert short(True) == "true"
    assert short(10**5000) == "a number of thousands of digits"
