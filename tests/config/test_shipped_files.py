"""Every section in configs/ and every campaign in campaigns/ loads, and editors agree with the schema."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from activeph.config import load_campaign
from activeph.config.inputs import check_inputs, read_unit_cell
from activeph.config.json_schema import campaign_schema
from activeph.kinds import BUILT_IN, known_kinds
from activeph.label.vasp import VaspLabeler
from activeph.records import Configuration
from activeph.role import Role
from activeph.section import SourceText

ROOT = Path(__file__).parents[2]
SECTIONS = sorted((ROOT / "configs").glob("*.yaml"))
CAMPAIGNS = sorted((ROOT / "campaigns").glob("*.yaml"))
BROUGHT_BY_USERS = ("teacher.model", "foundation.model")
ROLES = {"label": "labelers", "model": "models", "execute": "executors", "sample": "samplers", "select": "selectors"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(campaign_schema()))


def test_there_are_files() -> None:
    assert len(SECTIONS) >= 18
    assert CAMPAIGNS


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: path.stem)
def test_a_shipped_section_loads_and_suits_the_schema(path: Path, schema: dict[str, Any], tmp_path: Path) -> None:
    role = ROLES[path.stem.partition("-")[0]]
    folder = Path(shutil.copytree(path.parent, tmp_path / "configs"))
    for name in BROUGHT_BY_USERS:
        (folder / name).touch()
    section = Role(role).validate(SourceText(path.name, folder))
    assert path.stem.split("-", 1)[1].startswith(section.kind) or section.kind == "ase"  # type: ignore[attr-defined]
    value = yaml.safe_load(path.read_text())
    jsonschema.validate(value, {"$defs": schema["$defs"], "$ref": f"#/$defs/{role}"})


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_a_shipped_campaign_is_accepted_and_suits_the_schema(path: Path, schema: dict[str, Any]) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    campaign = load_campaign(path)
    for index in range(len(campaign.systems)):
        read_unit_cell(campaign, index)  # not the labeler: its code need not be installed here


@pytest.mark.parametrize("code", ["gpaw", "cp2k", "espresso", "vasp"])
def test_the_cluster_changes_nothing_but_where_labels_are_made(code: str) -> None:
    campaigns = [load_campaign(ROOT / "campaigns" / f"ag3sbr-{code}{ending}.yaml") for ending in ("", "-slurm")]
    here, there = (one.model_dump(exclude={"name", "execute"}) for one in campaigns)
    for each in (here, there):
        del each["label"]["cores"]
    assert here == there
    assert campaigns[1].execute.kind == "slurm"
    label, execute = campaigns[1].label, campaigns[1].execute
    assert execute.workers_per_node == 32 // label.cores  # type: ignore[attr-defined]


def test_vasp_is_asked_for_what_the_published_study_asked_for() -> None:
    label = load_campaign(ROOT / "campaigns" / "ag3sbr-vasp.yaml").label
    assert isinstance(label, VaspLabeler)
    published = {"GGA": "PS", "ENCUT": 550, "EDIFF": 1e-7, "ISMEAR": 0, "SIGMA": 0.2, "NELM": 160}
    assert published.items() <= label._tags(["Ag"]).items()


@pytest.mark.integration
@pytest.mark.parametrize("code", ["abinit", "cp2k", "espresso"])
def test_a_shipped_section_finds_what_debian_has_for_silicon(code: str) -> None:
    """The names of pseudopotentials and basis sets in it are those of real files."""
    cell = 2.73 * (np.ones((3, 3)) - np.eye(3))
    silicon = Configuration(np.array([14, 14]), np.array([[0.0, 0.0, 0.0], [1.365, 1.365, 1.365]]), cell)
    labeler: Any = Role("labelers").validate(SourceText(f"label-{code}.yaml", ROOT / "configs"))
    labeler.check(silicon)
    assert len(labeler.fingerprint) == 12


@pytest.mark.integration
def test_the_campaign_with_cp2k_runs_as_it_is() -> None:
    check_inputs(load_campaign(ROOT / "campaigns" / "ag3sbr-cp2k.yaml"))


def test_the_schema_is_a_schema_and_knows_every_kind(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    for role in BUILT_IN:
        kinds = {
            entry["properties"]["kind"]["const"]
            for entry in schema["$defs"][role]["anyOf"]
            if "kind" in entry.get("properties", {})
        }
        assert kinds == set(known_kinds(role))


@pytest.mark.parametrize(
    "wrong",
    [
        {"systems": ["a.cif"]},
        {"systems": ["a.cif"], "label": "nonsense"},
        {"systems": ["a.cif"], "label": {"kind": "xtb", "acuracy": 1}},
        {"systems": ["a.cif"], "label": "xtb", "temperatures": [-1]},
        {"systems": ["a.cif"], "label": "xtb", "budget": {"lables": 1}},
        {"systems": ["a.cif"], "label": "xtb", "model": {"membres": 1}},
        {"systems": ["a.cif"], "label": {"accuracy": 1}},
        {"systems": ["a.cif"], "label": "xtb", "targets": ["band_gab"]},
        {"systems": [{"structure": "a.cif", "supercell": [2, 2]}], "label": "xtb"},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any], schema: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


@pytest.mark.parametrize(
    "good",
    [
        {"systems": ["a.cif"], "label": "xtb"},
        {"systems": [{"structure": "a.cif"}], "label": "configs/label-xtb.yaml"},
        {
            "systems": ["a.cif"],
            "label": "xtb",
            "model": {"members": 2},
            "test": {"sample": {"statistics": "classical"}},
        },
        {"systems": ["a.cif"], "label": {"include": "label-xtb.yaml", "accuracy": 0.1}},
        {"systems": [{"structure": "a.cif", "supercell": [[0, 1, 1], [1, 0, 1], [1, 1, 0]]}], "label": {"kind": "xtb"}},
    ],
)
def test_the_schema_accepts_short_forms(good: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(good, schema)


def test_every_key_has_a_meaning(schema: dict[str, Any]) -> None:
    for name in ("Arm", "Budget", "SystemSection", "TestSection"):
        for key, facts in schema["$defs"][name]["properties"].items():
            assert facts.get("description"), f"{name}.{key}"
    for role in BUILT_IN:
        for entry in schema["$defs"][role]["anyOf"]:
            for key, facts in entry.get("properties", {}).items():
                assert key == "kind" or "$ref" in facts or facts.get("description"), f"{role}: {entry['title']}.{key}"
