from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from activeph.build import run_campaign
from activeph.config import load_campaign
from activeph.errors import InputError
from activeph.progress import NoProgress
from activeph.records import System
from activeph.sample.base import systems_of
from activeph.sample.defects import DefectsSampler
from activeph.sample.mixture import MixtureSampler
from activeph.sample.phonon import PhononSampler
from activeph.state import fold
from activeph.store.journal import Journal

DATA = Path(__file__).parents[1] / "data" / "kbr"
Builder = Callable[..., System]


def test_every_distinct_defect_is_a_system(crystal: Builder) -> None:
    host = crystal("perovskite")
    sampler = DefectsSampler(
        vacancies=["O", "Ti"], substitutions={"Sr": ["Ba", "Ca"], "Ti": "Zr"}, interstitials=["Li"], host=True
    )
    found = systems_of(sampler, host)
    names = [system.name.removeprefix("perovskite-") for system in found]
    assert names[:6] == ["perovskite", "vacancy-O1", "vacancy-Ti1", "Ba-on-Sr1", "Ca-on-Sr1", "Zr-on-Ti1"]
    assert set(names[6:]) == {f"interstitial-Li{number}" for number in range(1, len(names) - 5)}
    assert systems_of(PhononSampler(), host) == (host,)


def test_atoms_around_a_vacancy_keep_the_thermal_motion_of_the_host(crystal: Builder) -> None:
    host, n, T = crystal("perovskite"), 20_000, 2000.0
    keys: dict[str, Any] = {"temperatures": (T,), "statistics": "classical", "minimum_distance": 0.0}
    (found,) = systems_of(DefectsSampler(vacancies=["O"]), host)
    sampler = DefectsSampler(vacancies=["O"], sample={"kind": "phonon", **keys})
    block = sampler.pool(found, n, 1).block(0, n)
    u = block.positions - found.supercell.positions
    free = PhononSampler(**keys).pool(host, n, 2)
    v = free.block(0, n).positions - host.supercell.positions
    places = host.supercell.positions
    kept = [int(np.argmin(np.linalg.norm(places - place, axis=1))) for place in found.supercell.positions]
    # differences between atoms, since the two crystals keep different centres of mass at rest
    for first, second in ((0, 1), (3, 20), (10, 38)):
        ours = ((u[:, first] - u[:, second]) ** 2).sum(axis=1).mean()
        theirs = ((v[:, kept[first]] - v[:, kept[second]]) ** 2).sum(axis=1).mean()
        assert ours == pytest.approx(theirs, rel=0.04)


def test_guards_hold_for_the_atoms_of_the_defect(crystal: Builder) -> None:
    keys = {"kind": "random", "distribution": "uniform", "distance": 0.8, "minimum_distance": 1.4}
    sampler = DefectsSampler(interstitials=["Li"], sample=keys)
    (found, *_) = systems_of(sampler, crystal("rocksalt"))
    pool: Any = sampler.pool(found, 500, 1)
    assert 0.02 < pool.refused_share() < 0.9
    positions = pool.block(0, 500).positions
    offsets = (positions[:, :-1] - positions[:, -1:]) @ np.linalg.inv(found.supercell.cell)
    distances = np.linalg.norm((offsets - np.rint(offsets)) @ found.supercell.cell, axis=2)
    assert distances.min() >= 1.4


def test_wrong_keys_get_a_sentence(crystal: Builder) -> None:
    host = crystal("perovskite")
    with pytest.raises(ValidationError, match="must name vacancies, substitutions or interstitials"):
        DefectsSampler()
    with pytest.raises(ValidationError, match="must keep the atoms of the crystal"):
        DefectsSampler(vacancies=["O"], sample={"kind": "defects", "vacancies": ["O"]})
    with pytest.raises(ValidationError, match="must keep the atoms of the crystal; put the mixture inside defects"):
        MixtureSampler(parts=[{"sample": {"kind": "defects", "vacancies": ["O"]}}])
    with pytest.raises(InputError, match="must sit on one of its elements but got Na"):
        DefectsSampler(vacancies=["Na"]).systems(host)
    with pytest.raises(InputError, match="must be asked for the pools of its own systems but got the crystal"):
        DefectsSampler(vacancies=["O"]).pool(host, 5, 0)
    assert DefectsSampler(vacancies=["O"], temperatures=(300.0,), host=True).pool(host, 5, 0).size == 5


def _campaign(folder: Path) -> Path:
    defects = {"kind": "defects", "vacancies": ["Br"], "substitutions": {"Br": "Cl"}, "host": True}
    content = {
        "name": "defects",
        "systems": [
            {
                "name": "KBr",
                "structure": str(DATA / "KBr.vasp"),
                "supercell": [2, 2, 2],
                "force_constants": str(DATA / "phonopy_params.yaml"),
            }
        ],
        "temperatures": [300],
        "targets": ["energy_per_atom"],
        "arms": {
            "active": {"sample": defects, "select": "lcmd"},
            "random": {"sample": {**defects, "sample": "random"}, "select": "random"},
        },
        "label": {
            "kind": "ase",
            "calculator": "ase.calculators.lj:LennardJones",
            "arguments": {"sigma": 2.9, "rc": 6.0, "smooth": True},
        },
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 18, "initial": 9, "batch": 9, "repeats": 1},
        "pool": 60,
        "test": {"sample": {**defects, "host": False}, "n": 8},
        "execute": "serial",
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_campaign_learns_the_crystal_and_its_defects(tmp_path: Path) -> None:
    path, run = _campaign(tmp_path), tmp_path / "run"
    assert load_campaign(path).arms["active"].sample.temperatures == (300,)  # type: ignore[attr-defined]
    run_campaign(path, run, NoProgress())
    names = {"KBr", "KBr-vacancy-Br1", "KBr-Cl-on-Br1"}
    assert {path.name for path in (run / "systems").iterdir()} == names
    state = fold(Journal(run / "journal.jsonl").events())
    assert {pick.system for picks in state.picks.values() for pick in picks} == names
    assert {pick.system for pick in state.test or ()} == names - {"KBr"}
    page = (run / "report" / "report.html").read_text()
    assert "KBr-vacancy-Br1" in page
    journal = (run / "journal.jsonl").read_bytes()
    run_campaign(path, run, NoProgress())
    assert (run / "journal.jsonl").read_bytes() == journal
