"""What ``activeph ledger`` does: list, verify, bring in, hand out."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from activeph.errors import InputError, LabelFailed
from activeph.identity import label_key
from activeph.imports import enter
from activeph.label.result_files import read_results
from activeph.label.sanity import check_label
from activeph.records import Entry, Failure, Label
from activeph.store.ledger import Ledger
from activeph.store.records_io import ARRAYS_NAME, FAILURE_NAME, LABEL_NAME


@dataclass(frozen=True)
class Imported:
    """What became of the structures of some files."""

    added: int
    known: int
    refused: tuple[str, ...]  # one sentence each


def list_ledger(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Yield the facts of every record without reading its arrays: key, state, and what its JSON file says.

    A record whose file cannot be read has the state ``damaged``, and nothing more but its key.
    """
    for key, state in ledger.states():
        facts = read_facts(ledger.directory(key))
        yield {"key": key, "state": "damaged"} if facts is None else {**facts, "key": key, "state": state}


INTERNAL = ("format", "key", "arrays_sha256")
"""Facts of a record that concern nobody but the ledger."""


def read_facts(folder: Path) -> dict[str, Any] | None:
    """Return what the JSON file of a record says, None where it is missing or damaged."""
    for name in (LABEL_NAME, FAILURE_NAME):
        try:
            facts = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None
    return None


def find_record(ledger: Ledger, start: str) -> tuple[str, Path]:
    """Return key and folder of the one record or running calculation whose key begins with ``start``.

    Raises InputError where no key or more than one begins so.
    """
    places = ledger.places(start.lower())
    if len(places) == 1:
        return places.popitem()
    hint = "give more digits" if places else "'activeph ledger list' shows them"
    raise InputError(
        f"a label must be named by the beginning of its key but got {start!r}, which {len(places)} share; {hint}"
    )


NO_LOGS = frozenset({LABEL_NAME, FAILURE_NAME, ARRAYS_NAME})


def log_files(ledger: Ledger, key: str) -> list[Path]:
    """Return the files that a code left or is writing for one label, the one written last first.

    ``key`` may be the beginning of a key; see :func:`find_record`.
    """
    folder = find_record(ledger, key)[1]
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in NO_LOGS]
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def verify_ledger(ledger: Ledger) -> Iterator[tuple[str, str | None]]:
    """Yield every key with a sentence that says what is wrong with its record and where it lies, None where nothing is.

    Read whole: hashes of the arrays, finite numbers, and the key itself, which configuration and fingerprint must give.
    """
    for key in sorted(ledger.keys()):
        yield key, _problem(ledger, key)


def _problem(ledger: Ledger, key: str) -> str | None:
    folder = ledger.directory(key)
    try:
        outcome = ledger.get(key)
        if outcome is None:
            return f"{folder} must hold {LABEL_NAME} or {FAILURE_NAME} but got neither"
        if isinstance(outcome, Failure):
            return None
        check_label(outcome)
    except InputError as error:
        return str(error)
    except LabelFailed as error:
        return f"{folder} must hold a sound label but got one that is not: {error.message}"
    fingerprint = str(outcome.provenance.get("fingerprint"))
    if label_key(outcome.configuration, fingerprint) != key:
        return f"{folder} must be named by its configuration and fingerprint but got those of another key"
    return None


def abandoned_work(ledger: Ledger) -> str | None:
    """Return a sentence about what dead processes left half done, whatever campaign's; None where they left nothing."""
    left = ledger.abandoned()
    if not left:
        return None
    many = f"{len(left)} calculations were" if len(left) > 1 else "1 calculation was"
    counts = Counter(work.account or "campaigns of earlier versions" for work in left)
    whose = ", ".join(f"{number} of {account}" for account, number in sorted(counts.items()))
    return (
        f"{many} left half done by dead processes ({whose}), such as {left[0].path}: harmless; the next run of its "
        "campaign removes it and counts its time; where that campaign will not run again, remove it"
    )


def import_labels(ledger: Ledger, files: Sequence[Path], fingerprint: str | None = None) -> Imported:
    """Put the labels of finished calculations into the ledger.

    ``fingerprint`` is that of the labeler whose labels they are, so that a campaign with that labeler finds them, also
    where the files kept fewer digits than it asks for (:mod:`activeph.imports`);
    without it, it is made of the files' contents, and only exports and other imports see them. Raises InputError
    where a file cannot be read; calculations that did not converge are refused and named.
    """
    added = known = 0
    refused: list[str] = []
    for path in files:
        try:
            labels = read_results(path)
        except LabelFailed as error:
            refused.append(f"{path}: {error.message}")
            continue
        name = fingerprint or hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for number, label in enumerate(labels):
            try:
                if isinstance(label, LabelFailed):
                    raise label
                check_label(label)
            except LabelFailed as error:
                place = f", structure {number}" if len(labels) > 1 else ""
                refused.append(f"{path}{place}: {error.message}")
                continue
            label = replace(label, provenance={"code": None, **label.provenance, "fingerprint": name})
            key = label_key(label.configuration, name)
            if ledger.put(key, label.configuration, label):
                if fingerprint is not None:
                    enter(ledger, key, label, fingerprint)
                added += 1
            else:
                known += 1
    return Imported(added, known, tuple(refused))


def ledger_entries(ledger: Ledger) -> Iterator[Entry]:
    """Yield all labels as entries for export; the system is the formula, the split is train."""
    from ase.formula import Formula
    from ase.symbols import Symbols

    for key, state in ledger.states():
        if state != "label":
            continue
        label = ledger.get(key)
        if isinstance(label, Label):
            formula = Formula(str(Symbols(label.configuration.numbers))).reduce()[0]
            yield Entry(key, label, f"{formula:metal}", math.nan, key, (), "train")
