from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

KBR = """KBr
1.0
0.0 3.3875 3.3875
3.3875 0.0 3.3875
3.3875 3.3875 0.0
K Br
1 1
Direct
0.0 0.0 0.0
0.5 0.5 0.5
"""

DISORDERED = """data_x
_cell_length_a 6.6
_cell_length_b 6.6
_cell_length_c 6.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
K1 K 0 0 0 1
Br1 Br 0.5 0.5 0.5 0.5
Cl1 Cl 0.5 0.5 0.5 0.5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with structures of all sorts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KBr.vasp").write_text(KBR)
    (tmp_path / "Cu.vasp").write_text("Cu\n1.0\n0 1.8 1.8\n1.8 0 1.8\n1.8 1.8 0\nCu\n1\nDirect\n0 0 0\n")
    (tmp_path / "ThO.vasp").write_text(KBR.replace("K Br", "Th O"))
    (tmp_path / "twice.vasp").write_text(KBR.replace("0.5 0.5 0.5", "0.0 0.0 0.01"))
    (tmp_path / "nan.vasp").write_text(KBR.replace("0.5 0.5 0.5", "0.5 nan 0.5"))
    (tmp_path / "empty.cif").write_text("")
    (tmp_path / "noise.cif").write_text("data_x\n_cell_length_a what\n")
    (tmp_path / "molecule.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    (tmp_path / "disordered.cif").write_text(DISORDERED)
    (tmp_path / "structures").mkdir()
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[[str], Path]:
    """Writes a campaign file."""

    def write(text: str, name: str = "c.yaml") -> Path:
        path = folder / name
        path.write_text(text)
        return path

    return write
