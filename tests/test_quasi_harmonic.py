"""A campaign whose cells expand as the crystal's vibrations have it, labelled or read, and resumed without paying."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.spacegroup import crystal as symmetric

from activeph.build import run_campaign
from activeph.config import load_campaign
from activeph.errors import InputError
from activeph.progress import NoProgress
from activeph.quasi_harmonic import with_stored_cells
from activeph.sample.phonon import PhononSampler
from activeph.sample.random import RandomSampler
from activeph.systems import load_system, write_phonopy


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activeph.build.draw_report", lambda directory: None)
    monkeypatch.setattr("activeph.build._conclude", lambda directory: "")


def _campaign(folder: Path, structure: str = "Cu", **quasi_harmonic: Any) -> Path:
    bulk("Cu", cubic=True, a=3.6).write(folder / "Cu.vasp")
    sampler = {"kind": "phonon", "expansion": "quasi-harmonic"}
    content = {
        "name": "warm",
        "systems": [
            {
                "structure": str(folder / f"{structure}.vasp"),
                "supercell": [2, 2, 2] if structure == "Cu" else [1, 1, 1],
                "quasi_harmonic": quasi_harmonic,
            },
        ],
        "temperatures": [300, 600],
        "targets": ["energy_per_atom"],
        "arms": {"phonon": {"sample": sampler, "select": "random"}},
        "label": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        "model": {"kind": "modes", "members": 2},
        "budget": {"labels": 6, "initial": 6, "repeats": 1},
        "pool": 50,
        "test": {"sample": sampler, "n": 6},
        "execute": "serial",
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activeph.build.draw_report", lambda directory: None)
        patch.setattr("activeph.build._conclude", lambda directory: "")
        run_campaign(_campaign(folder, strains=[-0.01, 0, 0.01, 0.02, 0.03]), folder / "run", NoProgress())
    return folder


def test_cells_are_labelled_written_and_drawn_in(done: Path) -> None:
    folder = done / "run" / "systems" / "Cu"
    for name in ("quasi-harmonic-300K.yaml", "quasi-harmonic-600K.yaml", "quasi-harmonic.csv", "quasi-harmonic.png"):
        assert (folder / name).exists()
    system = load_system("Cu", done / "Cu.vasp", [2, 2, 2], folder / "phonopy_params.yaml")
    system = with_stored_cells(system, folder)
    assert sorted(system.thermal_cells) == [300.0, 600.0]
    strains = [float(system.thermal_cells[T].strain[0, 0]) for T in (300.0, 600.0)]
    assert strains == pytest.approx([0.0036, 0.0104], abs=0.0004)
    for sampler in (PhononSampler, RandomSampler):
        block = sampler(temperatures=(300.0, 600.0), expansion="quasi-harmonic").pool(system, 2000, 1).block(0, 2000)
        for T, strain in zip((300.0, 600.0), strains, strict=True):
            rows = block.temperatures == T
            expected = np.broadcast_to((1 + strain) * system.supercell.cell, (1000, 3, 3))
            np.testing.assert_allclose(block.cells[rows], expected, atol=1e-9)
            # the softer phonons of the expanded crystal move farther than those of the given cell would
            u = block.positions[rows] - (1 + strain) * system.supercell.positions
            plain = PhononSampler(temperatures=(T,)).pool(system, 1000, 1).block(0, 1000)
            ratio = (u**2).mean() / ((plain.positions - system.supercell.positions) ** 2).mean()
            assert 1.02 < ratio < 1.4
    drawn = list((done / "run" / "labels").glob("*/*/label.json"))
    assert len(drawn) == 6 + 6 + 5 * 2  # arm, test set, five volumes; the given cell's force constants cost nothing


def test_a_second_start_pays_nothing(done: Path) -> None:
    before = sorted((done / "run" / "labels").glob("*/*/label.json"))
    (done / "run" / "systems" / "Cu" / "quasi-harmonic-600K.yaml").unlink()
    (done / "run" / "journal.jsonl").unlink()
    run_campaign(done / "campaign.yaml", done / "run", NoProgress())
    assert (done / "run" / "systems" / "Cu" / "quasi-harmonic-600K.yaml").exists()
    assert sorted((done / "run" / "labels").glob("*/*/label.json")) == before


def test_volumes_from_files_give_the_same_cells(done: Path, tmp_path: Path) -> None:
    from ase.calculators.emt import EMT

    from activeph.systems import finite_displacements, with_force_constants
    from activeph.systems.quasi_harmonic import stretched

    copper = load_system("Cu", done / "Cu.vasp", [2, 2, 2])
    files = []
    for strain in (-0.01, 0.0, 0.01, 0.02, 0.03):
        import ase

        copy = stretched(copper, strain)
        cells = finite_displacements(copy, 0.02)
        atoms = [ase.Atoms(c.numbers, c.positions, cell=c.cell, pbc=True, calculator=EMT()) for c in cells]
        copy = with_force_constants(copy, np.array([one.get_forces() for one in atoms]), 0.02)
        write_phonopy(copy, tmp_path / f"{strain}.yaml")
        energy = float(atoms[0].get_potential_energy()) / 8  # per unit cell
        files.append({"force_constants": str(tmp_path / f"{strain}.yaml"), "energy": energy})
    run_campaign(_campaign(tmp_path, files=files), tmp_path / "run", NoProgress())
    load_campaign(tmp_path / "run" / "campaign.yaml")  # what status, report and a further start read
    mine, theirs = (
        with_stored_cells(copper, folder / "run" / "systems" / "Cu").thermal_cells[300.0] for folder in (tmp_path, done)
    )
    np.testing.assert_allclose(mine.strain, theirs.strain, atol=1e-6)
    np.testing.assert_allclose(mine.force_constants, theirs.force_constants, atol=1e-5)


def test_strains_that_do_not_enclose_stop_before_any_file(tmp_path: Path) -> None:
    path = _campaign(tmp_path, strains=[-0.04, -0.03, -0.02, -0.01])
    with pytest.raises(InputError, match="must enclose the cell of least free energy at 300 K"):
        run_campaign(path, tmp_path / "run", NoProgress())
    assert not list((tmp_path / "run" / "systems" / "Cu").glob("quasi-harmonic*"))


def test_uniform_displacements_know_no_thermal_cell(done: Path) -> None:
    system = dataclasses.replace(load_system("Cu", done / "Cu.vasp", [2, 2, 2]))
    with pytest.raises(InputError, match="which know no temperature, but got quasi-harmonic"):
        RandomSampler(distribution="uniform", expansion="quasi-harmonic").pool(system, 5, 1)
    with pytest.raises(InputError, match="must have a quasi-harmonic cell at 300 K but got none"):
        PhononSampler(temperatures=(300.0,), expansion="quasi-harmonic").pool(system, 5, 1)


def test_axes_of_a_hexagonal_crystal_expand_each_by_itself(tmp_path: Path) -> None:
    alloy = symmetric(["Cu", "Au"], [(0.834, 0.668, 0.25), (1 / 3, 2 / 3, 0.25)], spacegroup=194,
                      cellpar=[5.26, 5.26, 4.28, 90, 90, 120])  # fmt: skip
    alloy.write(tmp_path / "Cu3Au.vasp", direct=True)
    path = _campaign(tmp_path, "Cu3Au", shape="free", strains=[-0.01, 0, 0.01, 0.02, 0.03])
    run_campaign(path, tmp_path / "run", NoProgress())
    folder = tmp_path / "run" / "systems" / "Cu3Au"
    system = with_stored_cells(load_system("Cu3Au", tmp_path / "Cu3Au.vasp", [1, 1, 1]), folder)
    warm, hot = (system.thermal_cells[T] for T in (300.0, 600.0))
    assert hot.strain[2, 2] > warm.strain[2, 2] > warm.strain[0, 0] > 0
    np.testing.assert_allclose(hot.strain[0, 0], hot.strain[1, 1], atol=1e-9)
    assert warm.shift is not None
    pool = PhononSampler(temperatures=(300.0,), expansion="quasi-harmonic").pool(system, 4000, 1).block(0, 4000)
    sites = system.supercell.positions @ (np.eye(3) + warm.strain) + warm.shift
    away = pool.positions - sites
    assert np.abs(away.mean(axis=0)).max() < 5 * away.std() / np.sqrt(4000)
    assert np.abs(warm.shift).max() > 5 * away.std() / np.sqrt(4000)  # or the line above would say nothing
    before = sorted((tmp_path / "run" / "labels").glob("*/*/label.json"))
    written = (folder / "quasi-harmonic-600K.yaml").read_text()
    (folder / "quasi-harmonic-600K.yaml").unlink()
    (tmp_path / "run" / "journal.jsonl").unlink()
    run_campaign(path, tmp_path / "run", NoProgress())
    assert sorted((tmp_path / "run" / "labels").glob("*/*/label.json")) == before
    assert (folder / "quasi-harmonic-600K.yaml").read_text() == written


def test_who_keeps_the_shape_of_such_a_crystal_is_told(tmp_path: Path) -> None:
    class Listening(NoProgress):
        def say(self, line: str) -> None:
            said.append(line)

    said: list[str] = []
    bulk("Co", "hcp", a=2.6, c=4.2).write(tmp_path / "Cu3Au.vasp")
    path = _campaign(tmp_path, "Cu3Au", strains=[-0.08, -0.07, -0.06, -0.05])
    path.write_text(path.read_text().replace("emt:EMT", "lj:LennardJones"))
    with pytest.raises(InputError, match="quasi"):
        run_campaign(path, tmp_path / "run", Listening())
    assert any("shape: free finds how" in line for line in said)


def test_a_free_shape_with_vacuum_is_refused(tmp_path: Path) -> None:
    path = _campaign(tmp_path, "Cu3Au", shape="free")
    slab = bulk("Cu", cubic=True, a=3.6)
    slab.center(vacuum=5.0, axis=2)
    slab.write(tmp_path / "Cu3Au.vasp")
    with pytest.raises(InputError, match="shape must be kept for crystals with vacuum but got free"):
        run_campaign(path, tmp_path / "run", NoProgress())


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"distortions": [-0.02, 0.02]}, "must have shape: free where distortions are given"),
        ({"shape": "free", "distortions": [-0.02, 0.0]}, "must name each distortion once and none of zero"),
        ({"strains": [-0.02, 0.0, 0.02, 0.03], "files": "FILES"}, "must have strains or files but not both"),
    ],
)
def test_keys_without_use_are_refused(tmp_path: Path, keys: dict[str, Any], sentence: str) -> None:
    path = _campaign(tmp_path)
    if "files" in keys:
        keys = keys | {"files": [{"force_constants": str(path), "energy": 0.0}] * 4}
    with pytest.raises(InputError, match=sentence):
        load_campaign(_campaign(tmp_path, **keys))
