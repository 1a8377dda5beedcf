"""Results of finished calculations, recognised by the names of their files."""

from __future__ import annotations

from pathlib import Path

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import label_of
from activeph.label.espresso_xml import read_espresso_xml
from activeph.label.frames import modification_time, read_frames
from activeph.label.printed_output import unconverged
from activeph.label.vasp_xml import read_vasprun
from activeph.records import Label

RESULT_NAMES = ("result.extxyz", "vasprun.xml", "data-file-schema.xml", "OUTCAR")


def read_results(path: Path) -> tuple[Label | LabelFailed, ...]:
    """Return the labels in a file: ``vasprun*.xml``, pw.x's XML, or anything that ASE reads with energies.

    Of ``OUTCAR`` and pw.x's printed output ASE gives no bands, so gap and edges are NaN: give the XML files where
    they are. In the place of a structure whose calculation did not converge there is the reason. Raises InputError
    where the file is unreadable, LabelFailed where nothing in it is a label.
    """
    name = path.name.lower()
    if not path.exists():
        raise InputError(f"a file of results must exist but got {str(path)!r}, which is not there; correct the path.")
    if name.startswith("vasprun") and name.endswith(".xml"):
        configuration, answer = read_vasprun(path)
        return (label_of(configuration, answer, {"code": "vasp", "source": str(path)}),)
    if name.endswith(".xml"):
        configuration, answer = read_espresso_xml(path)
        return (label_of(configuration, answer, {"code": "espresso", "source": str(path)}),)
    return _read_printed(path)


def _read_printed(path: Path) -> tuple[Label | LabelFailed, ...]:
    """Return what ASE reads, but for calculations of which the file itself says that they did not converge."""
    try:
        reasons = unconverged(path, modification_time(path))
    except OSError:
        reasons = ()
    first = next((reason for reason in reasons if reason), None)
    if first and all(reasons):
        raise LabelFailed("unconverged", first)
    labels = read_frames(path)
    if first and len(labels) != len(reasons):
        raise LabelFailed("unconverged", f"{first}, and it is not clear which structure that was")
    told = zip(labels, reasons, strict=True) if first else ((label, None) for label in labels)
    return tuple(LabelFailed("unconverged", reason) if reason else label for label, reason in told)


def read_result(path: Path) -> Label:
    """Return the one label, or the last, of a file. Raises LabelFailed where it is torn or not converged."""
    try:
        found = read_results(path)[-1]
    except InputError as error:
        raise LabelFailed("crashed", str(error)) from error
    if isinstance(found, LabelFailed):
        raise found
    return found
