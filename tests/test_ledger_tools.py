import json
import os
import re
from pathlib import Path

import ase.test
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import Bohr, Ry

from activeph.errors import InputError
from activeph.execute.serial import SerialWorkers
from activeph.identity import label_key
from activeph.label.ase_calculator import AseLabeler
from activeph.label.replay import ReplayLabeler
from activeph.labelling import obtain
from activeph.ledger_tools import import_labels, ledger_entries, list_ledger, log_files, verify_ledger
from activeph.records import Configuration, Failure, Label
from activeph.store.ledger import Ledger

DATA = Path(__file__).parent / "label" / "data"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    frames = []
    for seed in range(3):
        atoms = bulk("KBr", "rocksalt", 6.775)
        atoms.positions += np.round(np.random.default_rng(seed).normal(scale=0.1, size=(2, 3)), 3)
        atoms.info |= {"energy": -1.0 * seed, "gap": 5.0, "vbm": -7.0}
        atoms.arrays["forces"] = np.full((2, 3), 0.1)
        frames.append(atoms)
    write(tmp_path / "labels.extxyz", frames)
    return tmp_path / "labels.extxyz"


def test_imported_labels_are_found_by_a_campaign(labelled: Path, tmp_path: Path) -> None:
    from ase.io import read

    ledger, labeler = Ledger(tmp_path / "labels"), ReplayLabeler(files=(labelled,))
    imported = import_labels(ledger, [labelled], labeler.fingerprint)
    assert (imported.added, imported.known, imported.refused) == (3, 0, ())
    assert import_labels(ledger, [labelled], labeler.fingerprint).known == 3
    atoms = read(labelled, index=1)
    wanted = Configuration(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array)  # type: ignore[union-attr]
    obtain(labeler, [wanted], ledger, SerialWorkers())
    assert ledger.calculations() == []  # nothing had to be calculated


def test_results_of_codes_are_recognised_and_unconverged_ones_refused(tmp_path: Path) -> None:
    documented = DATA / "written-from-documentation" / "vasprun.xml"
    unconverged = tmp_path / "vasprun.xml"
    unconverged.write_text(documented.read_text().replace('"NELM">   100', '"NELM">   2'))
    ledger = Ledger(tmp_path / "labels")
    files = [documented, unconverged, DATA / "espresso-6.7-silicon" / "data-file-schema.xml"]
    imported = import_labels(ledger, files)
    assert imported.added == 2
    assert len(imported.refused) == 1
    assert "no convergence in 2 electronic steps" in imported.refused[0]
    assert {record["provenance"]["code"] for record in list_ledger(ledger)} == {"vasp", "espresso"}
    with pytest.raises(InputError, match="must exist but got"):
        import_labels(ledger, [tmp_path / "none.xml"])


def test_verify_finds_each_kind_of_damage(labelled: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "labels")
    import_labels(ledger, [labelled])
    first, second, third = sorted(ledger.keys())
    assert [problem for _, problem in verify_ledger(ledger)] == [None] * 3
    arrays = bytearray((ledger.directory(first) / "arrays.npz").read_bytes())
    arrays[100] ^= 1
    (ledger.directory(first) / "arrays.npz").write_bytes(arrays)
    record = ledger.directory(second) / "label.json"
    facts = json.loads(record.read_text())
    facts["provenance"]["fingerprint"] = "000000000000"
    record.write_text(json.dumps(facts))
    (ledger.directory(third) / "label.json").unlink()
    problems = dict(verify_ledger(ledger))
    assert "hash of arrays.npz differs" in str(problems[first])
    assert "those of another key" in str(problems[second])
    assert "label.json or failure.json but got neither" in str(problems[third])


def test_a_torn_record_is_listed_as_damaged(labelled: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "labels")
    import_labels(ledger, [labelled])
    first, second, _ = sorted(ledger.keys())
    for key, text in ((first, '{"energy": '), (second, "[]")):
        (ledger.directory(key) / "label.json").write_text(text)
    found = {record["key"]: record["state"] for record in list_ledger(ledger)}
    assert sorted(found.values()) == ["damaged", "damaged", "label"]
    assert found[first] == found[second] == "damaged"


def test_the_output_of_a_label_is_found_also_while_it_runs(labelled: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "labels")
    import_labels(ledger, [labelled])
    key = next(iter(ledger.keys()))
    assert log_files(ledger, key) == []
    for name, age in (("input", 20), ("output", 10)):
        (ledger.directory(key) / name).write_text(name)
        os.utime(ledger.directory(key) / name, ns=(0, 10**18 - age))
    assert [path.name for path in log_files(ledger, key[:12])] == ["output", "input"]
    with ledger.workdir("ab" * 12) as workdir:
        (workdir / "scf.log").write_text("1 2 3")
        assert log_files(ledger, "abab") == [workdir / "scf.log"]
    with pytest.raises(InputError, match="which 0 share; 'activeph ledger list' shows them"):
        log_files(ledger, "abab")
    with pytest.raises(InputError, match="which 3 share; give more digits"):
        log_files(ledger, "")


def test_labels_are_handed_out_and_failures_are_not(labelled: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "labels")
    import_labels(ledger, [labelled])
    entries = list(ledger_entries(ledger))
    assert [entry.system for entry in entries] == ["KBr"] * 3
    ledger.put("ff" * 12, entries[0].label.configuration, Failure("crashed", "a bad node"))
    assert len(list(ledger_entries(ledger))) == 3
    states = [record["state"] for record in list_ledger(ledger)]
    assert sorted(states) == ["failure", "label", "label", "label"]


def crystal(seed: int) -> Configuration:
    """Return a displaced supercell of KBr, unlike every other seed's."""
    atoms = bulk("KBr", "rocksalt", 6.775) * (2, 2, 2)
    moves = np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Configuration(atoms.numbers.astype(np.int64), atoms.positions + moves, atoms.cell.array)


def as_frame(configuration: Configuration, energy: float) -> Atoms:
    atoms = Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
    forces = np.arange(3.0 * len(atoms)).reshape(-1, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=np.zeros(6))
    return atoms


@pytest.mark.parametrize("digits", [8, 5])
def test_labels_are_found_again_though_their_file_kept_fewer_digits(tmp_path: Path, digits: int) -> None:
    wanted = [crystal(seed) for seed in range(12)]
    written = []
    for number, one in enumerate(wanted):
        order = np.random.default_rng(number).permutation(len(one.numbers))  # as a code sorts them
        positions = np.round(one.positions[order] + 1.0, digits)
        written.append(as_frame(Configuration(one.numbers[order], positions, one.cell), -float(number)))
    write(tmp_path / "labels.extxyz", written)
    ledger, emt = (
        Ledger(tmp_path / "labels"),
        AseLabeler(calculator="ase.calculators.emt:EMT"),
    )  # knows neither K nor Br
    assert import_labels(ledger, [tmp_path / "labels.extxyz"], emt.fingerprint).added == 12
    found = obtain(emt, [*wanted, crystal(99)], ledger, SerialWorkers())
    for number, (one, label) in enumerate(zip(wanted, found.values(), strict=False)):
        assert isinstance(label, Label)
        assert label.energy == -float(number)
        stored = ledger.get(label_key(one, emt.fingerprint))
        assert isinstance(stored, Label)
        np.testing.assert_array_equal(stored.configuration.positions, one.positions)
        order = np.random.default_rng(number).permutation(len(one.numbers))
        np.testing.assert_allclose(stored.forces[order], np.arange(3.0 * len(order)).reshape(-1, 3))
    assert isinstance(list(found.values())[-1], Failure)  # near is not the same
    assert len(ledger.calculations()) == 1
    assert all(problem is None for _, problem in verify_ledger(ledger))


def test_every_kind_of_file_is_imported(tmp_path: Path) -> None:
    one = crystal(0)
    write(tmp_path / "one.extxyz", as_frame(one, -1.0))
    write(tmp_path / "one.db", as_frame(crystal(1), -2.0))
    outcar = Path(ase.test.__file__).parent / "testdata" / "vasp" / "OUTCAR_example_1"
    (tmp_path / "OUTCAR").write_bytes(outcar.read_bytes())  # of VASP itself
    files = {
        "one.extxyz": tmp_path / "one.extxyz",
        "one.db": tmp_path / "one.db",
        "OUTCAR": tmp_path / "OUTCAR",
        "pw.out": DATA / "espresso-6.7-silicon" / "pw.out",
        "XML of pw.x": DATA / "espresso-6.7-silicon" / "data-file-schema.xml",
        "vasprun.xml": DATA / "written-from-documentation" / "vasprun.xml",
    }
    for name, path in files.items():
        ledger = Ledger(tmp_path / f"ledger of {name}")
        imported = import_labels(ledger, [path])
        assert imported.added >= 1, name
        assert imported.refused == (), name
        labels = [ledger.get(key) for key, _ in ledger.states()]
        assert all(isinstance(label, Label) and np.isfinite(label.forces).all() for label in labels), name
        assert all(problem is None for _, problem in verify_ledger(ledger)), name


def test_printed_output_of_pw_x_says_the_same_as_ase_reads(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    import_labels(ledger, [DATA / "espresso-6.7-silicon" / "pw.out"])
    label = ledger.get(next(iter(ledger.keys())))
    assert isinstance(label, Label)
    # the file says: total energy -15.7... Ry and forces in Ry/bohr
    text = (DATA / "espresso-6.7-silicon" / "pw.out").read_text()
    energy = float(re.search(r"^!.*=\s+(\S+) Ry", text, re.MULTILINE)[1])  # type: ignore[index]
    forces = np.array(re.findall(r"atom +\d type +1 +force = +(\S+) +(\S+) +(\S+)", text)[:2], dtype=float)
    assert label.energy == pytest.approx(energy * Ry, abs=1e-4)  # the constant differs by version
    np.testing.assert_allclose(label.forces, forces * Ry / Bohr, atol=1e-5)
    assert np.isfinite(label.stress).all()
