"""Files of a run directory are old or complete, whatever happens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from activeph.rundir import write_bytes


def test_a_full_disk_leaves_the_old_file_alone_and_is_told_with_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "metrics.json"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device.*metrics.json"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["metrics.json"]
