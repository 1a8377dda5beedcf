"""What ``activeph phonons`` says of the arms' candidates and of renormalised force constants."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from activeph.cli.phonons import command
from activeph.systems import load_system, write_phonopy

DATA = Path(__file__).parents[1] / "data" / "kbr"


def _campaign(folder: Path, **arms: Any) -> Path:
    content = {
        "name": "shown",
        "systems": [
            {
                "name": "KBr",
                "structure": str(DATA / "KBr.vasp"),
                "supercell": [2, 2, 2],
                "force_constants": str(DATA / "phonopy_params.yaml"),
            }
        ],
        "temperatures": [300],
        "arms": {name: {"sample": sampler, "select": "random"} for name, sampler in arms.items()},
        "baseline": next(iter(arms)),
        "label": "xtb",
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _said(path: Path, *options: str) -> str:
    result = CliRunner().invoke(command, [str(path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_each_arm_shows_its_amplitudes_and_refusals(tmp_path: Path) -> None:
    narrow = {"kind": "phonon", "largest_displacement": 0.9}
    said = _said(_campaign(tmp_path, plain="phonon", matched="random", narrow=narrow))
    lines = {line.split()[1].rstrip(":"): line for line in said.splitlines() if line.startswith("  arm ")}
    assert set(lines) == {"plain", "matched", "narrow"}
    amplitudes = [float(lines[name].split(" K ")[1].split()[0]) for name in ("plain", "matched")]
    assert amplitudes[0] == pytest.approx(amplitudes[1], rel=0.05)
    assert "guards refuse 0.0% of draws" in lines["plain"]
    refused = float(lines["narrow"].rsplit("refuse ", 1)[1].split("%")[0])
    assert 1 < refused < 99


def test_renormalised_force_constants_of_the_run_are_used(tmp_path: Path) -> None:
    path = _campaign(tmp_path, warm={"kind": "phonon", "imaginary": "renormalise"})
    said = _said(path, "--output", str(tmp_path / "run"))
    assert "renormalised force constants at 300 K but got none" in said
    system = load_system("KBr", DATA / "KBr.vasp", [2, 2, 2], DATA / "phonopy_params.yaml")
    folder = tmp_path / "run" / "systems" / "KBr"
    folder.mkdir(parents=True)
    stiff = dataclasses.replace(system, force_constants=4 * system.force_constants)
    write_phonopy(stiff, folder / "effective-300K.yaml")
    picture = tmp_path / "bands.png"
    said = _said(path, "--output", str(tmp_path / "run"), "--picture", str(picture))
    plain = _said(_campaign(tmp_path, plain="phonon"))
    (before,) = re.findall(r"modes in \d+ sets, \S+ to (\S+) THz, 0 imaginary", plain)
    (after,) = re.findall(r"renormalised at 300 K: \S+ to (\S+) THz, 0 imaginary", said)
    assert float(after) == pytest.approx(2 * float(before), abs=0.02)

    def size(text: str) -> float:
        line = next(line for line in text.splitlines() if "rms displacement at 300 K" in line)
        return float(line.split(" K ")[-1].split()[0])

    assert size(said) == pytest.approx(size(plain) / 2, rel=0.03)  # four times as stiff, nearly classical
    assert picture.stat().st_size > 10_000


def test_what_is_missing_is_computed_on_request(tmp_path: Path) -> None:
    from ase.build import bulk

    bulk("Cu", cubic=True, a=3.6).write(tmp_path / "Cu.vasp")
    sampler = {"kind": "phonon", "expansion": "quasi-harmonic"}
    content = {
        "name": "computed",
        "systems": [{"structure": str(tmp_path / "Cu.vasp"), "supercell": [2, 2, 2]}],
        "temperatures": [300],
        "targets": ["energy_per_atom"],
        "arms": {"warm": {"sample": sampler, "select": "random"}},
        "label": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        "execute": "serial",
    }
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    run = tmp_path / "run"
    said = _said(path, "--output", str(run), "--compute")
    assert "0 imaginary" in said
    assert "quasi-harmonic cell at 300 K: all lengths +0.3" in said
    assert "arm warm: rms displacement over all temperatures Cu 0.11" in said
    assert not (run / "journal.jsonl").exists()
    labels = sorted((run / "labels").glob("*/*/label.json"))
    assert len(labels) == 6 * 2  # six volumes, of which one has the displacements of the force constants
    _said(path, "--output", str(run), "--compute")
    assert sorted((run / "labels").glob("*/*/label.json")) == labels


def test_force_constants_from_files_are_examined(tmp_path: Path) -> None:
    assert "as read they miss the acoustic sum rule by 0.0%" in _said(_campaign(tmp_path, plain="phonon"))


def test_isotopes_change_frequencies(tmp_path: Path) -> None:
    path = _campaign(tmp_path, plain="phonon")
    content = yaml.safe_load(path.read_text())
    content["systems"][0]["masses"] = {"K": 4 * 39.0983, "Br": 4 * 79.904}
    heavy = tmp_path / "heavy.yaml"
    heavy.write_text(yaml.safe_dump(content))

    def highest(text: str) -> float:
        line = next(line for line in text.splitlines() if " modes in " in line)
        return float(line.split(" to ")[1].split(" THz")[0])

    assert highest(_said(heavy)) == pytest.approx(highest(_said(path)) / 2, abs=0.006)
