"""`activeph init` with the file names that crystal databases give."""

from pathlib import Path

import pytest

from activeph.config import load_campaign


@pytest.mark.parametrize("name", ["9008610", "1e5", "NULL", "true", "mp-22862", "0x1F"])
def test_a_name_that_looks_like_a_number_stays_a_name(activeph, folder: Path, name: str) -> None:
    (folder / "Cu.vasp").rename(folder / f"{name}.vasp")
    answer = activeph("init", "--structure", f"{name}.vasp", "--label", "xtb", "--supercell", 2, 2, 2, "--labels", 4)
    assert (answer.code, answer.err) == (0, "")
    campaign = load_campaign(folder / "campaign.yaml")
    assert campaign.name == name.lower()
    assert campaign.systems[0].name == name
