from pathlib import Path

import numpy as np
import pytest

from activeph.costs import core_hours
from activeph.records import Configuration, Failure
from activeph.store.ledger import Ledger

CRYSTAL = Configuration(np.array([29]), np.zeros((1, 3)), np.eye(3))


def test_labels_cost_all_attempts_and_those_of_others_what_their_records_say(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, cores=4)
    own, failed, others, imported, unknown = (f"{number:024x}" for number in range(5))
    for outcome, seconds in (("retried", 900.0), ("lost", 450.0), ("label", 1800.0)):
        ledger.log_attempt(own, outcome, seconds)
    ledger.log_attempt(failed, "unconverged", 3600.0)
    ledger.put(others, CRYSTAL, Failure("unconverged", "not reached", {"wall_time": 7200.0}))
    ledger.put(imported, CRYSTAL, Failure("unconverged", "not reached", {"wall_time": None}))
    found = core_hours(ledger, [own, failed, others, imported, unknown])
    assert found == pytest.approx({own: 4 * 3150 / 3600, failed: 4.0, others: 8.0})


def test_what_was_only_begun_here_costs_what_it_took_elsewhere_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, cores=4)
    key = f"{1:024x}"
    ledger.log_attempt(key, "lost", 900.0)
    ledger.put(key, CRYSTAL, Failure("unconverged", "not reached", {"wall_time": 7200.0}))
    assert core_hours(ledger, [key, key]) == pytest.approx({key: 1.0 + 8.0})
