"""Labels from elsewhere: found again although their files kept fewer digits, or their atoms stand in another order.

A ledger's keys are made of coordinates rounded to 1e-5 Å, which tells configurations apart and forgives the round-off
of a computer, but not that of a file. What is imported is therefore also entered into ``imported.jsonl`` with a few
numbers that translation, order of like atoms and periodic images leave alone: the structure factors
``|Σ_j Z_j exp(2πi G·f_j)|`` of some short G. A campaign that misses a label compares its own numbers with those, and
the atoms one by one where they agree (:func:`activeph.identity.aligned`, 1e-4 Å). What fits gets a record under the
key that was asked for, with the atoms in the order they were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from activeph.identity import SAME_POSITION, aligned
from activeph.records import Configuration, FloatArray, Label
from activeph.store.ledger import Ledger

INDEX = "imported.jsonl"
WAVES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [2, 1, 0]])  # G in reciprocal lattice vectors


def enter(ledger: Ledger, key: str, label: Label, fingerprint: str) -> None:
    """Note that a record was imported for campaigns with a labeler of that fingerprint."""
    facts = {"key": key, "fingerprint": fingerprint, "atoms": _atoms(label.configuration)}
    line = json.dumps(facts | {"waves": [round(float(wave), 6) for wave in _waves(label.configuration)]})
    with (ledger.root / INDEX).open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")


def adopt(ledger: Ledger, fingerprint: str, wanted: Mapping[str, Configuration]) -> int:
    """Give imported labels of wanted configurations records under their keys; return how many."""
    entered = [facts for facts in _index(ledger) if facts["fingerprint"] == fingerprint]
    if not entered:
        return 0
    keys = {facts["key"] for facts in entered}
    waves = np.array([facts["waves"] for facts in entered])
    adopted = 0
    for key, configuration in wanted.items():
        if key in keys:
            adopted += _put_in_order(ledger, key, configuration)
        elif ledger.state(key) is None:
            atoms, near = _atoms(configuration), _near(waves, configuration)
            alike = [entered[row]["key"] for row in near if entered[row]["atoms"] == atoms]
            adopted += _borrow(ledger, key, configuration, alike)
    return adopted


def _put_in_order(ledger: Ledger, key: str, configuration: Configuration) -> bool:
    label = ledger.get(key)
    if not isinstance(label, Label):
        return False
    ordered = aligned(label, configuration)
    return ordered is not label and ledger.put(key, configuration, ordered, replace=True)


def _near(waves: FloatArray, configuration: Configuration) -> list[int]:
    """Return the rows of ``waves`` [imported, G] that may be the configuration's.

    An atom moved by d changes a wave by at most 2π Z |G| d.
    """
    lengths = np.linalg.norm(WAVES @ np.linalg.inv(configuration.cell).T, axis=1)
    tolerance = 2 * np.pi * lengths * float(configuration.numbers.sum()) * SAME_POSITION
    return [int(row) for row in np.flatnonzero((np.abs(waves - _waves(configuration)) <= tolerance).all(axis=1))]


def _borrow(ledger: Ledger, key: str, configuration: Configuration, alike: Sequence[str]) -> bool:
    for imported in alike:
        label = ledger.get(imported)
        try:
            if isinstance(label, Label):
                return ledger.put(key, configuration, aligned(label, configuration))
        except ValueError:  # another configuration after all
            continue
    return False


def _index(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what has been entered; a torn last line is passed over."""
    try:
        lines = (ledger.root / INDEX).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _atoms(configuration: Configuration) -> list[int]:
    numbers, counts = np.unique(configuration.numbers, return_counts=True)
    return [int(value) for pair in zip(numbers, counts, strict=True) for value in pair]


def _waves(configuration: Configuration) -> FloatArray:
    fractions = configuration.positions @ np.linalg.inv(configuration.cell)
    phases = np.exp(2j * np.pi * fractions @ WAVES.T)  # [N, G]
    return np.asarray(np.abs(configuration.numbers @ phases))
