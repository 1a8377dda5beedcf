"""Files of calculations that did not converge are no labels: real output of pw.x 6.7, and a real OUTCAR made worse."""

import re
from pathlib import Path

import ase.test
import pytest

from activeph.errors import InputError, LabelFailed
from activeph.label.replay import ReplayLabeler
from activeph.label.result_files import read_result, read_results
from activeph.ledger_tools import import_labels
from activeph.records import Label
from activeph.store.ledger import Ledger

DATA = Path(__file__).parent / "data"
SILICON = DATA / "espresso-6.7-silicon"
UNCONVERGED = DATA / "espresso-6.7-silicon-unconverged"
OUTCAR = Path(ase.test.__file__).parent / "testdata" / "vasp" / "OUTCAR_example_1"  # of VASP 5.3.3
REACHED = "------------------------ aborting loop because EDIFF is reached ----------------------------------------\n"
NOT_REACHED = (
    "------------------------ aborting loop EDIFF was not reached (unconverged)  ----------------------------\n"
)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stopped.out", "pw.x: no convergence in 2 iterations"),
        # with scf_must_converge = .false. pw.x says that convergence has been achieved
        ("went-on.out", "pw.x: no convergence in 2 iterations: accuracy 0.0121588 Ry, asked 1e-09 Ry"),
        ("went-on.xml", "pw.x: no convergence in 2 iterations: error 0.00607941 Hartree, asked 5e-10 Hartree"),
    ],
)
def test_pw_x(tmp_path: Path, name: str, reason: str) -> None:
    path = UNCONVERGED / name
    with pytest.raises(LabelFailed, match=re.escape(reason)) as failed:
        read_result(path)
    assert failed.value.kind == "unconverged"
    imported = import_labels(Ledger(tmp_path), [SILICON / "pw.out", path, SILICON / "data-file-schema.xml"])
    assert imported.refused == (f"{path}: {reason}",)
    assert imported.added == 2


@pytest.mark.parametrize("line", ["", NOT_REACHED], ids=["as VASP 5 writes", "as VASP 6 writes"])
@pytest.mark.parametrize("name", ["OUTCAR", "renamed.txt.OUTCAR"])
def test_outcar(tmp_path: Path, line: str, name: str) -> None:
    text = OUTCAR.read_text()
    assert text.count(REACHED) == 1
    (path := tmp_path / name).write_text(text.replace(REACHED, line))
    last = max(int(number) for number in re.findall(r"Iteration +\d+\( *(\d+)\)", text))
    with pytest.raises(LabelFailed, match=f"VASP: no convergence in {last} electronic steps"):
        read_result(path)
    imported = import_labels(Ledger(tmp_path / "labels"), [path, OUTCAR])
    assert imported.refused == (f"{path}: VASP: no convergence in {last} electronic steps",)
    assert imported.added == 1


def three_steps() -> str:
    """Return the OUTCAR of three ionic steps: the real one's, three times."""
    text = OUTCAR.read_text()
    begin = text.index("----------------------------------------- Iteration")
    end = text.index("General timing and accounting")
    return text[:begin] + "".join(re.sub(r"Iteration +1\(", f"Iteration    {n}(", text[begin:end]) for n in (1, 2, 3))


def test_one_structure_of_several(tmp_path: Path) -> None:
    head, first, second, third = three_steps().split(REACHED)
    path = tmp_path / "OUTCAR"
    path.write_text(head + REACHED + first + NOT_REACHED + second + REACHED + third)
    found = read_results(path)
    assert [isinstance(one, Label) for one in found] == [True, False, True]
    imported = import_labels(Ledger(tmp_path / "labels"), [path])
    (sentence,) = imported.refused
    assert sentence.startswith(f"{path}, structure 1: VASP: no convergence in ")
    assert imported.added + imported.known == 2


def test_a_replay_knows_no_unconverged_label(tmp_path: Path) -> None:
    head, first, second, third = three_steps().split(REACHED)
    (path := tmp_path / "OUTCAR").write_text(head + first + REACHED + second + REACHED + third)
    assert len(ReplayLabeler(files=(path,))._index()) == 1  # the same structure thrice
    path.write_text(head + first + second + third)
    with pytest.raises(InputError, match=r"must hold labels but got .*no convergence in \d+ electronic steps"):
        ReplayLabeler(files=(path,))._index()


def test_compressed_files_are_looked_into(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "OUTCAR.gz"
    path.write_bytes(gzip.compress(OUTCAR.read_text().replace(REACHED, "").encode()))
    with pytest.raises(LabelFailed, match="no convergence"):
        read_results(path)
