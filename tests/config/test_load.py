from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activeph.config import check_inputs, load_campaign
from activeph.errors import InputError

SHORT = "systems: [KBr.vasp]\nlabel: xtb\n"
LONG = """name: long
seed: 3
systems:
  - {name: one, structure: KBr.vasp, supercell: [2, 2, 2], displacement: 0.01}
  - {name: two, structure: ./KBr.vasp, supercell: [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]}
targets: [band_gap, energy_per_atom]
temperatures: [100, 300.5]
arms:
  active: {sample: {kind: phonon, temperatures: [500], statistics: classical}, select: lcmd}
  baseline-arm: {sample: random, select: {kind: random}}
pool: 500
label: {kind: xtb, accuracy: 0.1}
model: {kind: gnn, members: 3}
budget: {labels: 60, initial: 20, batch: 10, repeats: 2, target_error: {band_gap: 0.05}}
test: {sample: phonon, temperatures: [300], n: 50}
execute: {kind: processes, workers: 2}
"""


def test_the_shortest_file_has_the_defaults_of_the_design(write: Callable[[str], Path], folder: Path) -> None:
    campaign = load_campaign(write(SHORT, "short.yaml"))
    assert campaign.name == "short"
    assert campaign.systems[0].name == "KBr"
    assert campaign.systems[0].structure == folder / "KBr.vasp"
    assert campaign.systems[0].supercell == ((2, 0, 0), (0, 2, 0), (0, 0, 2))
    assert campaign.temperatures == (150, 300, 450, 600)
    assert list(campaign.arms) == ["active-phonon", "random"]
    assert [arm.sample.kind for arm in campaign.arms.values()] == ["phonon", "random"]
    assert [arm.select.kind for arm in campaign.arms.values()] == ["lcmd", "random"]
    assert campaign.baseline == "random"
    assert (campaign.budget.labels, campaign.budget.initial, campaign.budget.batch) == (250, 25, 25)
    assert (campaign.budget.repeats, campaign.test.n, campaign.pool) == (3, 100, 2000)
    assert (campaign.label.kind, campaign.model.kind, campaign.execute.kind) == ("xtb", "modes-gnn", "processes")
    check_inputs(campaign)


def test_a_long_file_says_everything(write: Callable[[str], Path]) -> None:
    campaign = load_campaign(write(LONG))
    assert campaign.systems[1].supercell == ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
    assert campaign.baseline == "baseline-arm"  # the only arm that selects at random
    assert campaign.budget.target_error == {"band_gap": 0.05}
    check_inputs(campaign)


def test_a_section_with_a_default_kind_takes_it_where_none_is_written(write: Callable[[str], Path]) -> None:
    text = SHORT + "model: {members: 2}\nexecute: {workers: 3}\ntest: {sample: {statistics: classical}}\n"
    campaign = load_campaign(write(text))
    assert (campaign.model.kind, campaign.model.members) == ("modes-gnn", 2)
    assert (campaign.execute.kind, campaign.execute.workers) == ("processes", 3)  # type: ignore[attr-defined]
    assert (campaign.test.sample.kind, campaign.test.sample.statistics) == ("phonon", "classical")  # type: ignore[attr-defined]


def test_one_member_is_enough_for_selectors_that_look_at_features(write: Callable[[str], Path]) -> None:
    assert load_campaign(write(SHORT + "model: {members: 1}\n")).model.members == 1


def test_samplers_without_temperatures_take_those_of_the_campaign(write: Callable[[str], Path]) -> None:
    campaign = load_campaign(write(LONG))
    assert campaign.arms["active"].sample.temperatures == (500,)  # type: ignore[attr-defined]
    assert campaign.arms["baseline-arm"].sample.temperatures == (100, 300.5)  # type: ignore[attr-defined]
    assert campaign.test.sample.temperatures == (300,)  # type: ignore[attr-defined]


def test_a_small_budget_brings_small_batches(write: Callable[[str], Path]) -> None:
    budget = load_campaign(write(SHORT + "budget: {labels: 10}\n")).budget
    assert (budget.initial, budget.batch) == (10, 10)


def test_paths_count_from_the_file_they_stand_in(write: Callable[[str], Path], folder: Path) -> None:
    for name in ("here", "there"):
        (folder / name).mkdir()
        (folder / name / "data.extxyz").write_text("x")
    (folder / "there" / "label.yaml").write_text("kind: replay\nfiles: [data.extxyz]\n")
    included = write("systems: [../KBr.vasp]\nlabel: ../there/label.yaml\n", "here/c.yaml")
    overridden = write(
        "systems: [../KBr.vasp]\nlabel: {include: ../there/label.yaml, files: [data.extxyz]}\n", "here/d.yaml"
    )
    assert load_campaign(included).label.files == (folder / "there" / "data.extxyz",)  # type: ignore[attr-defined]
    assert load_campaign(overridden).label.files == (folder / "here" / "data.extxyz",)  # type: ignore[attr-defined]


def test_a_campaign_travels_to_workers(write: Callable[[str], Path]) -> None:
    campaign = load_campaign(write(LONG))
    assert pickle.loads(pickle.dumps(campaign)) == campaign


LINES = LONG.splitlines()
WORDS = st.sampled_from(
    ["", "-1", "0", "1e400", ".nan", "'", "[", "}", "null", "true", "*a", "&a", "!!map", "\t", "- ", ": ", "KBr.vasp"]
    + [
        "c.yaml",
        "lcmd",
        "phonon",
        "99999999999999999999",
        "[1, 2]",
        "{kind: xtb}",
        "{include: c.yaml}",
        "\x00",
        "é",
        "?",
    ]
)


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """Draw a valid file with a few lines dropped, doubled, swapped, cut or spoilt."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines) - 1))
        action = draw(st.sampled_from(["drop", "double", "cut", "value", "insert", "characters"]))
        if action == "drop" and len(lines) > 1:
            del lines[index]
        elif action == "double":
            lines.insert(draw(st.integers(0, len(lines))), lines[index])
        elif action == "cut":
            lines[index] = lines[index][: draw(st.integers(0, len(lines[index])))]
        elif action == "value":
            lines[index] = lines[index].partition(":")[0] + ": " + draw(WORDS)
        elif action == "insert":
            place = draw(st.integers(0, len(lines[index])))
            lines[index] = lines[index][:place] + draw(WORDS) + lines[index][place:]
        else:
            place = draw(st.integers(0, len(lines[index])))
            lines[index] = lines[index][:place] + draw(st.text(max_size=5)) + lines[index][place + 1 :]
    return "\n".join(lines) + "\n"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutations())
def test_any_mutation_gives_a_campaign_or_one_sentence(text: str, folder: Path) -> None:
    path = folder / "c.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        check_inputs(load_campaign(path))
    except InputError as error:
        sentence = str(error)
    else:
        return
    assert "\n" not in sentence
    assert "but got" in sentence


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_give_one_sentence(data: bytes, folder: Path) -> None:
    path = folder / "c.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError, match="but got"):
        load_campaign(path)
