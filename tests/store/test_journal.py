import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.errors import InputError
from activeph.store.journal import Journal

EVENTS = [{"event": "round", "number": 1}, {"event": "label", "keys": ["a", "b"]}, {"event": "ü", "value": 0.1}]


def written(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "run" / "journal.jsonl")
    for event in EVENTS:
        journal.append(event)
    return journal


def test_events_come_back_in_order(tmp_path: Path) -> None:
    journal = written(tmp_path)
    assert journal.events() == EVENTS
    assert Journal(journal.path).events() == EVENTS


def test_no_journal_has_no_events(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.jsonl").events() == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("torn", [b'{"event": "x"', b'{"event": "x"}', b"{", b"\0\0\0\0", b"\0\0\0\n", b"\xff\xfe"])
def test_a_torn_last_line_is_tolerated_and_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = written(tmp_path).path
    with path.open("ab") as stream:
        stream.write(torn)
    reopened = Journal(path)
    assert reopened.events() == EVENTS
    reopened.append({"event": "next"})
    assert Journal(path).events() == [*EVENTS, {"event": "next"}]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_cut_leaves_a_prefix(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.mktemp("cut")).path
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    events = Journal(path).events()
    assert events == EVENTS[: len(events)]
    Journal(path).append({"event": "next"})
    assert Journal(path).events() == [*events, {"event": "next"}]


@pytest.mark.parametrize("damage", [b'{"event": \n', b"\n", b"[1]\n", b"null\n", b"\0\0\n"])
def test_a_torn_middle_line_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = written(tmp_path).path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + lines[1] + lines[2])
    with pytest.raises(InputError, match="line 2 of the journal must be one JSON object but got"):
        Journal(path).events()
    with pytest.raises(InputError, match="line 2"):
        Journal(path).append({"event": "next"})


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = written(tmp_path)
    real_write = os.write

    def half_then_full(descriptor: int, data: memoryview) -> int:
        if len(data) > 10:
            return real_write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("activeph.store.journal.os.write", half_then_full)
        with pytest.raises(OSError, match="No space"):
            journal.append({"event": "eleven!"})
    assert journal.events() == EVENTS
    journal.append({"event": "next"})
    assert Journal(journal.path).events() == [*EVENTS, {"event": "next"}]


def test_every_append_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(
        "activeph.store.journal.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size)
    )
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "one"})
    assert journal.path.stat().st_size in synced
