"""A campaign on a crystal of double wells: unstable, renormalised from labels, resumed without paying twice."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import yaml
from ase.calculators.calculator import Calculator, all_changes

from activeph.build import run_campaign
from activeph.errors import InputError
from activeph.phonons.modes import normal_modes
from activeph.progress import NoProgress
from activeph.systems import load_system

A, B, SPRING, EDGE = 2.0, 30.0, 4.0, 4.0  # eV/Å², eV/Å⁴, eV/Å², Å


class Wells(Calculator):
    """Cl in a cage of eight Cs: springs between neighbouring Cs, wells -A/2 y² + B/4 y⁴ for y of Cl from its cage."""

    implemented_properties = ["energy", "forces"]
    calls = 0

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        type(self).calls += 1
        heavy = self.atoms.numbers == 55
        box = self.atoms.cell.array[0, 0]
        places = np.where(heavy[:, None], 0.0, 0.5) + np.rint(
            self.atoms.positions / EDGE - np.where(heavy[:, None], 0, 0.5)
        )
        sites = places * EDGE
        u = self.atoms.positions - sites
        offsets = sites[:, None] - sites[None]
        lengths = np.linalg.norm(offsets - box * np.rint(offsets / box), axis=2)
        cages = np.eye(len(u))[~heavy] - ((lengths < 3.6) & heavy[None])[~heavy] / 8
        bonds = 2 * SPRING * ((np.abs(lengths - EDGE) < 0.1) & heavy[:, None] & heavy[None])  # 2: both sides of the box
        matrix = np.diag(bonds.sum(axis=1)) - bonds
        y = cages @ u
        forces = -matrix @ u - cages.T @ (-A * y + B * y**3)
        energy = 0.5 * np.sum(u * (matrix @ u)) + np.sum(-A / 2 * y**2 + B / 4 * y**4)
        self.results = {"energy": float(energy), "forces": forces}


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("double_wells")
    module.Wells = Wells  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "double_wells", module)
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    Wells.calls = 0


def _campaign(folder: Path, temperatures: list[int], **renormalise: Any) -> Path:
    ase.io.write(folder / "CsCl.vasp", ase.Atoms("CsCl", [[0, 0, 0], [2, 2, 2]], cell=np.eye(3) * EDGE, pbc=True))
    sampler = {"kind": "phonon", "imaginary": "renormalise", "statistics": "classical"}
    content = {
        "name": "wells",
        "systems": [
            {
                "name": "CsCl",
                "structure": str(folder / "CsCl.vasp"),
                "supercell": [2, 2, 2],
                "renormalise": {
                    "statistics": "classical",
                    "draws": 24,
                    "frequency_tolerance": 0.4,
                    "energy_tolerance": 0.01,
                    **renormalise,
                },
            }
        ],
        "temperatures": temperatures,
        "arms": {"phonon": {"sample": sampler, "select": "random"}},
        "baseline": "phonon",
        "label": {"kind": "ase", "calculator": "double_wells:Wells"},
        "targets": ["energy_per_atom"],
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 8, "initial": 4, "batch": 4, "repeats": 1},
        "test": {"sample": sampler, "n": 6},
        "execute": "serial",
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_an_unstable_crystal_is_renormalised_and_campaigned(tmp_path: Path) -> None:
    path, run = _campaign(tmp_path, [300, 500]), tmp_path / "run"
    run_campaign(path, run, NoProgress())
    folder = run / "systems" / "CsCl"
    structure = tmp_path / "CsCl.vasp"
    harmonic = load_system("CsCl", structure, [2, 2, 2], folder / "phonopy_params.yaml")
    assert normal_modes(harmonic).frequencies[0] < -2
    for T in (300, 500):
        warm = load_system("CsCl", structure, [2, 2, 2], folder / f"effective-{T}K.yaml")
        lowest = normal_modes(warm).frequencies
        # Self-consistent stiffness of one well, k = -A + 3 B kT / k (see tests/physics/test_renormalise.py).
        stiffness = (-A + np.sqrt(A**2 + 12 * B * 8.617333e-5 * T)) / 2
        assert lowest[0] > 1.0
        light = 15.633302 * np.sqrt(stiffness / 35.453)
        assert np.median(lowest[:20]) == pytest.approx(light, rel=0.25)
    with (folder / "renormalisation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["temperature (K)"] for row in rows} == {"300.0", "500.0"}
    assert (folder / "renormalisation.png").stat().st_size > 10_000
    assert (folder / "bands.png").stat().st_size > 10_000


@pytest.mark.slow
def test_interrupted_renormalisation_pays_for_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _campaign(tmp_path, [400])
    run_campaign(path, tmp_path / "whole", NoProgress())
    whole = Wells.calls
    Wells.calls = 0

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("activeph.systems.write_rounds", die)
        with pytest.raises(KeyboardInterrupt):
            run_campaign(path, tmp_path / "run", NoProgress())
    assert not list((tmp_path / "run" / "systems" / "CsCl").glob("effective*"))
    run_campaign(path, tmp_path / "run", NoProgress())
    assert Wells.calls == whole
    files = [tmp_path / run / "systems" / "CsCl" / "effective-400K.yaml" for run in ("whole", "run")]
    first, second = (file.read_text().partition("force_constants:")[2] for file in files)
    assert first == second


def test_no_convergence_stops_the_campaign_with_a_sentence(tmp_path: Path) -> None:
    path = _campaign(tmp_path, [300], draws=2, max_rounds=3, frequency_tolerance=0.001)
    with pytest.raises(InputError, match="renormalisation of 'CsCl' at 300 K must converge but got, after 6 labels"):
        run_campaign(path, tmp_path / "run", NoProgress())
