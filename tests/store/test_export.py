"""The exported dataset read by other codes: ASE, MACE's own reader, h5py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress

from activeph.errors import ActivephError, InputError
from activeph.records import Configuration, Entry, Label
from activeph.store import export_formats
from activeph.store.export import card_path, export_entries, split_path

TARGETS = ("band_gap", "energy_per_atom", "hydrostatic_stress")


def make_entries(n: int = 12, system: str = "AuCu") -> list[Entry]:
    """Real energies, forces and stresses of a strained, shaken alloy (effective medium theory)."""
    rng = np.random.default_rng(1)
    entries = []
    for i in range(n):
        atoms = ase.Atoms(
            "CuAu3", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], cell=np.eye(3), pbc=True
        )
        atoms.set_cell(np.eye(3) * 3.9 + rng.normal(scale=0.1, size=(3, 3)), scale_atoms=True)
        atoms.rattle(0.1, seed=i)
        atoms.calc = EMT()
        label = Label(
            configuration=Configuration(atoms.numbers.astype(np.int64), atoms.positions.copy(), atoms.cell.array),
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
            stress=atoms.get_stress(),
            band_gap=0.1 * i,
            direct_band_gap=0.2 * i,
            valence_band_maximum=-1.0,
            conduction_band_minimum=-1.0 + 0.1 * i,
            eigenvalues=rng.normal(size=(1, 2, 5)),
            occupations=np.ones((1, 2, 5)),
            provenance={
                "code": "emt",
                "code_version": "1",
                "fingerprint": "123456789012",
                "settings": {"cutoff": 5.0, "name": "T"},
                "scf_iterations": None,
                "wall_time": 0.5,
                "host": "secret-machine",
            },
        )
        split = ("train", "train", "validation", "test")[i % 4]
        arms = () if split == "test" else ("active-phonon", "random")[: 1 + i % 2]
        temperature = np.nan if i == 3 else 300.0
        entries.append(Entry(f"{i:012d}", label, system, temperature, f"{i}", arms, split))
    return entries


def test_extended_xyz_keeps_everything(tmp_path: Path) -> None:
    entries = make_entries()
    path = tmp_path / "data.extxyz"
    written = export_entries(entries, "extxyz", path, TARGETS)
    assert written == [path, *(split_path(path, split) for split in ("train", "validation", "test")), card_path(path)]
    found = ase.io.read(path, ":")
    assert len(found) == 12
    for atoms, entry in zip(found, entries, strict=True):
        assert atoms.calc is None  # nothing that a reader could take for a calculator's result
        assert np.allclose(atoms.positions, entry.label.configuration.positions, atol=1e-8)
        assert np.allclose(atoms.cell.array, entry.label.configuration.cell, atol=1e-12)
        assert atoms.info["REF_energy"] == entry.label.energy
        assert np.allclose(
            atoms.info["REF_stress"].reshape(3, 3), voigt_6_to_full_3x3_stress(entry.label.stress), atol=1e-12
        )
        assert np.allclose(atoms.arrays["REF_forces"], entry.label.forces, atol=1e-8)
        assert atoms.info["energy_per_atom"] == entry.label.energy / 4
        assert atoms.info["hydrostatic_stress"] == pytest.approx(entry.label.stress[:3].mean())
        assert atoms.info["band_gap"] == pytest.approx(entry.label.band_gap)
        assert atoms.info["split"] == entry.split
        assert atoms.info.get("temperature", np.nan) == pytest.approx(entry.temperature, nan_ok=True)
        known = atoms.info["provenance"]
        assert (known["ledger_key"], known["candidate"], known["system"]) == (entry.key, entry.candidate, "AuCu")
        assert known["arms"] == list(entry.arms)
        assert known["settings"] == {"cutoff": 5.0, "name": "T"}


def test_splits_are_parts_of_the_whole(tmp_path: Path) -> None:
    export_entries(make_entries(), "extxyz", tmp_path / "data.extxyz", TARGETS)
    whole = [atoms.info["provenance"]["ledger_key"] for atoms in ase.io.read(tmp_path / "data.extxyz", ":")]
    parts = []
    for split in ("train", "validation", "test"):
        found = ase.io.read(tmp_path / f"data-{split}.extxyz", ":")
        assert {atoms.info["split"] for atoms in found} == {split}
        parts += [atoms.info["provenance"]["ledger_key"] for atoms in found]
    assert sorted(parts) == sorted(whole)


def test_mace_reads_what_was_labelled(tmp_path: Path) -> None:
    from mace import data
    from mace.tools import AtomicNumberTable

    entries = make_entries()
    export_entries(entries, "extxyz", tmp_path / "data.extxyz", TARGETS)
    specification = data.KeySpecification.from_defaults()
    _, configurations = data.load_from_xyz(str(tmp_path / "data.extxyz"), specification)
    table = AtomicNumberTable([29, 79])
    for configuration, entry in zip(configurations, entries, strict=True):
        graph = data.AtomicData.from_config(configuration, z_table=table, cutoff=3.0)
        assert float(graph.energy) == pytest.approx(entry.label.energy, rel=1e-6)
        assert np.allclose(graph.forces.numpy(), entry.label.forces, atol=1e-6)
        assert np.allclose(graph.stress.numpy()[0], voigt_6_to_full_3x3_stress(entry.label.stress), atol=1e-7)
        for weight in (graph.energy_weight, graph.forces_weight, graph.stress_weight):
            assert np.all(weight.numpy() == 1.0)


@pytest.mark.integration
def test_mace_trains_with_the_command_of_the_card(tmp_path: Path) -> None:
    export_entries(make_entries(24), "extxyz", tmp_path / "data.extxyz", TARGETS)
    command = (tmp_path / "data.extxyz.md").read_text().split("```")[-2].replace("\\\n", " ").split()
    tiny = "--max_num_epochs 2 --num_channels 4 --max_L 0 --r_max 3.0 --batch_size 4 --valid_batch_size 4 --device cpu"
    program = [sys.executable, "-m", "mace.cli.run_train", *command[1:], *tiny.split()]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-3000:]
    assert "WeightedEnergyForcesStressLoss" in log
    assert "No energies found" not in log
    assert "No forces found" not in log
    assert "Error-table on TEST" in log


def test_ase_database(tmp_path: Path) -> None:
    entries = make_entries()
    path = tmp_path / "data.db"
    assert export_entries(entries, "ase-db", path, TARGETS) == [path, card_path(path)]
    database = ase.db.connect(path)
    assert database.count(split="test") == 3
    assert database.count("temperature>200") == 11
    for row, entry in zip(database.select(), entries, strict=True):
        assert row.energy == row.REF_energy == entry.label.energy
        assert np.array_equal(row.forces, entry.label.forces)
        assert np.array_equal(row.toatoms().get_stress(), entry.label.stress)
        assert row.band_gap == pytest.approx(entry.label.band_gap)
        assert row.data["provenance"]["ledger_key"] == entry.key
        assert row.user is None


def test_hdf5(tmp_path: Path) -> None:
    entries = make_entries() + make_entries(2, "other")
    path = tmp_path / "data.h5"
    export_entries(entries, "hdf5", path, TARGETS)
    with h5py.File(path) as file:
        assert sorted(file) == ["AuCu", "other"]
        group = file["AuCu"]
        assert group["positions"].shape == (12, 4, 3)
        assert group["REF_forces"].attrs["unit"] == "eV/Å"
        assert group["hydrostatic_stress"].attrs["unit"] == "eV/Å³"
        assert np.array_equal(group["REF_energy"][()], [entry.label.energy for entry in entries[:12]])
        assert np.array_equal(group["eigenvalues"][()], [entry.label.eigenvalues for entry in entries[:12]])
        assert [text.decode() for text in group["split"][:4]] == ["train", "train", "validation", "test"]
        assert json.loads(group["provenance"][0])["code"] == "emt"


def test_hdf5_takes_spectra_of_different_shape(tmp_path: Path) -> None:
    one, other = make_entries(2)
    object.__setattr__(other.label, "eigenvalues", np.zeros((2, 3, 5)))
    object.__setattr__(other.label, "occupations", np.zeros((2, 3, 5)))
    export_entries([one, other, one], "hdf5", tmp_path / "data.h5", TARGETS)
    with h5py.File(tmp_path / "data.h5") as file:
        assert {name: len(group["split"]) for name, group in file.items()} == {"AuCu": 2, "AuCu#2": 1}


@pytest.mark.parametrize("file_format", ["extxyz", "hdf5"])
def test_same_entries_same_bytes(file_format: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        export_entries(make_entries(), file_format, tmp_path / folder / "data", TARGETS)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_data_card_tells_counts_units_and_how_to_train(tmp_path: Path) -> None:
    export_entries(make_entries(), "extxyz", tmp_path / "data.extxyz", TARGETS)
    card = (tmp_path / "data.extxyz.md").read_text()
    for part in (
        "12 labelled configurations of AuCu",
        "| train | 6 |",
        "| validation | 3 |",
        "| none (test set) | 3 |",
        "| active-phonon | 9 |",
        "| random | 3 |",
        "eV/Å³, positive under tension",
        "emt 1, fingerprint 123456789012, 12 labels",
        "--train_file data-train.extxyz",
        "--valid_file data-validation.extxyz",
    ):
        assert part in card, part


@pytest.mark.parametrize("file_format", ["extxyz", "ase-db", "hdf5"])
def test_machine_names_stay_at_home(file_format: str, tmp_path: Path) -> None:
    for path in export_entries(make_entries(), file_format, tmp_path / "data", TARGETS):
        assert b"secret-machine" not in path.read_bytes()


@pytest.mark.parametrize("occupied", ["data.extxyz", "data-test.extxyz", "data.extxyz.md"])
def test_nothing_is_overwritten(occupied: str, tmp_path: Path) -> None:
    (tmp_path / occupied).write_text("precious")
    with pytest.raises(InputError, match=f"{occupied}, which exists"):
        export_entries(make_entries(), "extxyz", tmp_path / "data.extxyz", TARGETS)
    assert (tmp_path / occupied).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [occupied]


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="extxyz, ase-db, hdf5 but got 'csv'"):
        export_entries(make_entries(1), "csv", tmp_path / "data", TARGETS)
    with pytest.raises(InputError, match="at least one label"):
        export_entries([], "extxyz", tmp_path / "data", TARGETS)
    with pytest.raises(InputError, match="but got colour"):
        export_entries(make_entries(1), "extxyz", tmp_path / "data", ["colour"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", ["extxyz", "ase-db", "hdf5"])
def test_a_file_that_reads_back_differently_is_not_kept(
    file_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transposed = export_formats.VOIGT[[1, 0, 2]]
    original = export_formats._compare
    monkeypatch.setattr(export_formats, "_compare", lambda *args: monkeypatch.undo() or original(*args))
    monkeypatch.setattr(export_formats, "VOIGT", transposed)
    with pytest.raises(ActivephError, match="must read back as the"):
        export_entries(make_entries(4), file_format, tmp_path / "data", TARGETS)
    assert list(tmp_path.iterdir()) == []
