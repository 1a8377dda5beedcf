from __future__ import annotations

from activeph.config.reference import reference
from activeph.config.schema import Campaign
from activeph.kinds import BUILT_IN, known_kinds


def test_every_key_and_every_kind_is_listed() -> None:
    lines = reference().splitlines()
    for key in Campaign.model_fields:
        assert any(line.startswith(f"{key}:") for line in lines)
    for role in BUILT_IN:
        start = lines.index(f"KINDS OF {role.upper()}")
        for kind in known_kinds(role):
            assert any(line.split("  ")[0] == f"kind: {kind}" for line in lines[start:])


def test_defaults_are_written_as_a_user_writes_them() -> None:
    text = reference()
    assert "  supercell: [2, 2, 2]" in text
    assert "temperatures: [150, 300, 450, 600]" in text
    assert "label: (required)" in text
    assert "    sample: (required)" in text  # below arms, below a name
    assert "  labels: 250 " in text
    assert "  workers: null " in text
    assert "\nmodel: modes-gnn " in text
    assert "Section" not in text


def test_lines_fit_a_terminal() -> None:
    assert max(map(len, reference().splitlines())) <= 110
