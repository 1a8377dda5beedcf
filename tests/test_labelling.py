import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from activeph.calculation import LabelTask, calculate
from activeph.errors import BudgetSpent, Paused
from activeph.execute.processes import ProcessExecutor
from activeph.execute.serial import SerialWorkers
from activeph.label.ase_calculator import AseLabeler
from activeph.labelling import Obtained, obtain
from activeph.records import Configuration, Failure, Label
from activeph.store.ledger import Ledger, label_key

EMT = AseLabeler(calculator="ase.calculators.emt:EMT")

HOME_MADE = '''
import os, pathlib, time
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT


class Troubled(EMT):
    """Follows the orders in files of a directory: how often to die or raise, how long to take."""

    def __init__(self, orders):
        super().__init__()
        self.orders = pathlib.Path(orders)

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        with (self.orders / "started").open("a") as stream:
            stream.write(f"{os.getpid()}\\n")
        time.sleep(float(self.order("seconds") or 0))
        if self.order("dies") == "always" or self.once("dies"):
            os.kill(os.getpid(), 9)
        if self.order("raises") == "always" or self.once("raises"):
            raise RuntimeError("a bad node")
        if self.order("unconverged"):
            raise CalculationFailed("no convergence: did not converge")
        if self.order("full"):
            raise OSError(28, "No space left on device")

    def order(self, name):
        path = self.orders / name
        return path.read_text() if path.exists() else ""

    def once(self, name):
        try:
            (self.orders / f"{name}-once").unlink()
        except FileNotFoundError:
            return False
        return True
'''


KILLER = """
import os
from activeph.label.ase_calculator import AseLabeler


class KillerLabeler(AseLabeler):
    def label(self, configuration, workdir):
        (workdir / "input").write_text("what was asked")
        os.kill(os.getpid(), 9)
"""


def copper(n: int, seed: int = 0) -> list[Configuration]:
    rng = np.random.default_rng(seed)
    crystal = bulk("Cu", "fcc", 3.6, cubic=True)
    numbers, cell = crystal.numbers.astype(np.int64), crystal.cell.array
    return [Configuration(numbers, crystal.positions + rng.normal(scale=0.05, size=(4, 3)), cell) for _ in range(n)]


@pytest.fixture
def troubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[AseLabeler, Path]:
    (tmp_path / "home_made_troubled.py").write_text(HOME_MADE)
    monkeypatch.syspath_prepend(tmp_path)
    orders = tmp_path / "orders"
    orders.mkdir()
    return AseLabeler(calculator="home_made_troubled:Troubled", arguments={"orders": str(orders)}), orders


def n_started(orders: Path) -> int:
    return len((orders / "started").read_text().splitlines())


def test_labels_are_calculated_once_and_then_read(tmp_path: Path) -> None:
    configurations, ledger = copper(4), Ledger(tmp_path / "labels")
    seen: list[Obtained] = []
    first = obtain(EMT, configurations, ledger, SerialWorkers(), seen.append)
    assert list(first) == [label_key(each, EMT.fingerprint) for each in configurations]
    assert [one.is_new for one in seen] == [True] * 4
    seen.clear()
    second = obtain(EMT, configurations, ledger, SerialWorkers(), seen.append)
    assert [one.is_new for one in seen] == [False] * 4
    assert len(ledger.calculations()) == 4
    for key, label in first.items():
        other = second[key]
        assert isinstance(label, Label)
        assert isinstance(other, Label)
        assert label.energy == other.energy
        np.testing.assert_array_equal(label.forces, other.forces)


def test_like_configurations_share_one_calculation_and_keep_their_order_of_atoms(tmp_path: Path) -> None:
    (configuration,) = copper(1)
    order = [2, 0, 3, 1]
    moved = Configuration(configuration.numbers[order], configuration.positions[order] + 0.4, configuration.cell)
    ledger = Ledger(tmp_path)
    (label,) = obtain(EMT, [configuration, moved, configuration], ledger, SerialWorkers()).values()
    assert len(ledger.calculations()) == 1
    (again,) = obtain(EMT, [moved], ledger, SerialWorkers()).values()
    assert isinstance(label, Label)
    assert isinstance(again, Label)
    np.testing.assert_array_equal(again.configuration.positions, moved.positions)
    np.testing.assert_array_equal(again.forces, label.forces[order])


def test_another_labeler_has_its_own_labels(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for arguments in ({}, {"asap_cutoff": True}):
        labeler = AseLabeler(calculator="ase.calculators.emt:EMT", arguments=arguments)
        obtain(labeler, copper(1), ledger, SerialWorkers())
    assert len(ledger.calculations()) == 2


def test_unconverged_is_recorded_at_once(troubled: tuple[AseLabeler, Path], tmp_path: Path) -> None:
    labeler, orders = troubled
    (orders / "unconverged").write_text("yes")
    ledger = Ledger(tmp_path / "labels")
    (failure,) = obtain(labeler, copper(1), ledger, SerialWorkers()).values()
    assert isinstance(failure, Failure)
    assert failure.kind == "unconverged"
    assert n_started(orders) == 1
    assert obtain(labeler, copper(1), ledger, SerialWorkers()) == dict.fromkeys(ledger.keys(), failure)
    assert n_started(orders) == 1


@pytest.mark.parametrize("trouble", ["dies", "raises"])
def test_a_crash_is_tried_once_more(troubled: tuple[AseLabeler, Path], tmp_path: Path, trouble: str) -> None:
    labeler, orders = troubled
    (orders / f"{trouble}-once").write_text("")
    with ProcessExecutor(workers=1).start() as workers:
        outcomes = obtain(labeler, copper(3), Ledger(tmp_path / "labels"), workers)
    assert all(isinstance(outcome, Label) for outcome in outcomes.values())
    assert n_started(orders) == 4


@pytest.mark.parametrize(("trouble", "reason"), [("dies", "SIGKILL"), ("raises", "RuntimeError: a bad node")])
def test_what_crashes_twice_is_recorded_with_its_evidence(
    troubled: tuple[AseLabeler, Path], tmp_path: Path, trouble: str, reason: str
) -> None:
    labeler, orders = troubled
    (orders / trouble).write_text("always")
    ledger = Ledger(tmp_path / "labels")
    with ProcessExecutor(workers=1).start() as workers:
        (failure,) = obtain(labeler, copper(1), ledger, workers).values()
    assert isinstance(failure, Failure)
    assert failure.kind == "crashed"
    assert reason in failure.message
    assert failure.provenance["traceback"]
    assert n_started(orders) == 2


def test_what_a_dead_worker_left_is_evidence_and_its_time_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home_made_killer.py").write_text(KILLER)
    monkeypatch.syspath_prepend(tmp_path)
    from home_made_killer import KillerLabeler  # type: ignore[import-not-found]

    ledger = Ledger(tmp_path / "labels", cores=4)
    with ProcessExecutor(workers=1).start() as workers:
        ((key, failure),) = obtain(
            KillerLabeler(calculator="ase.calculators.emt:EMT"), copper(1), ledger, workers
        ).items()
    assert isinstance(failure, Failure)
    assert (ledger.directory(key) / "input").read_text() == "what was asked"
    assert [(one["outcome"], one["cores"]) for one in ledger.attempts()] == [("lost", 4)] * 2
    assert ledger.calculations() == []
    assert ledger.leavings(key) == []


@pytest.mark.parametrize(("trouble", "content"), [("unconverged", "yes"), ("raises", "always")])
def test_where_most_fail_the_campaign_pauses_early(
    troubled: tuple[AseLabeler, Path], tmp_path: Path, trouble: str, content: str
) -> None:
    labeler, orders = troubled
    (orders / trouble).write_text(content)
    with pytest.raises(Paused, match=r"8 of 8 calculations failed, the last with '.*(no convergence|a bad node)"):
        obtain(labeler, copper(40), Ledger(tmp_path / "labels"), SerialWorkers())
    assert n_started(orders) == 8


def test_few_failures_do_not_stop_anything(troubled: tuple[AseLabeler, Path], tmp_path: Path) -> None:
    labeler, orders = troubled
    ledger = Ledger(tmp_path / "labels")
    (orders / "unconverged").write_text("yes")
    obtain(labeler, copper(7), ledger, SerialWorkers())
    (orders / "unconverged").unlink()
    outcomes = obtain(labeler, copper(20), ledger, SerialWorkers())
    assert sum(isinstance(outcome, Failure) for outcome in outcomes.values()) == 7


def test_a_full_disk_pauses_instead_of_failing_labels(troubled: tuple[AseLabeler, Path], tmp_path: Path) -> None:
    labeler, orders = troubled
    (orders / "full").write_text("yes")
    ledger = Ledger(tmp_path / "labels")
    with pytest.raises(Paused, match="cannot be written.*No space left on device"):
        obtain(labeler, copper(2), ledger, SerialWorkers())
    assert list(ledger.keys()) == []


def test_a_ledger_that_cannot_be_written_pauses(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a file where the directory should be")
    with pytest.raises(Paused, match="cannot be written"):
        obtain(EMT, copper(1), Ledger(tmp_path / "labels"), SerialWorkers())


def test_shared_labels_that_are_gone_pause(tmp_path: Path) -> None:
    (tmp_path / "labels").symlink_to(tmp_path / "shared")
    ledger = Ledger(tmp_path / "labels", tmp_path / "calculations")
    with pytest.raises(Paused, match=rf"must lead to the labels that are shared but got nothing at {tmp_path}/shared"):
        obtain(EMT, copper(10), ledger, SerialWorkers())
    (tmp_path / "shared").mkdir()
    assert len(obtain(EMT, copper(10), ledger, SerialWorkers())) == 10


def test_what_a_code_says_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rubbish(*args: object) -> None:
        raise RuntimeError(f"\x1b[2J\x00\x07 no memory\nat line 3 {'x' * 10**6}")

    monkeypatch.setattr(AseLabeler, "label", rubbish)
    (failure,) = obtain(EMT, copper(1), Ledger(tmp_path), SerialWorkers()).values()
    assert isinstance(failure, Failure)
    assert failure.message.startswith("RuntimeError: \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}")
    assert " no memory\nat line 3" in failure.message
    assert len(failure.message) < 10**4


def test_a_worker_finds_what_another_campaign_has_calculated(tmp_path: Path) -> None:
    (configuration,) = copper(1)
    ledger, key = Ledger(tmp_path), label_key(configuration, EMT.fingerprint)
    task: Any = LabelTask(EMT, configuration, key, ledger)
    assert calculate(task) is None
    assert calculate(task) is None
    assert len(ledger.calculations()) == 1


@pytest.fixture
def a_core_hour_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every calculation take 0.05 s whatever the clock says: one core-hour on 72000 cores."""
    ticks = itertools.count(0.0, 0.025)  # asked at the beginning, in the middle and at the end
    monkeypatch.setattr("activeph.calculation.time", SimpleNamespace(perf_counter=lambda: next(ticks)))


@pytest.mark.usefixtures("a_core_hour_each")
def test_the_limit_of_core_hours_holds_for_further_attempts(troubled: tuple[AseLabeler, Path], tmp_path: Path) -> None:
    labeler, orders = troubled
    (orders / "raises").write_text("always")
    ledger = Ledger(tmp_path / "labels", cores=72000, core_hours=7.5)
    ledger.log_attempt("known", "label", 0.05, f"{labeler.fingerprint}-4")
    with pytest.raises(BudgetSpent, match=r"^7 of 7.5 core-hours are spent, and a label takes about 1;"):
        obtain(labeler, copper(6), ledger, SerialWorkers())
    assert n_started(orders) == 6
    assert Counter(one["outcome"] for one in ledger.attempts()) == {"label": 1, "retried": 6}


@pytest.mark.usefixtures("a_core_hour_each")
def test_cheap_calculations_tell_nothing_of_the_cost_of_others(
    troubled: tuple[AseLabeler, Path], tmp_path: Path
) -> None:
    labeler, orders = troubled
    ledger = Ledger(tmp_path / "labels", cores=72000, core_hours=5.5)
    for number in range(50):  # a fast labeler renormalises, a dear one labels; or a crystal is small
        ledger.log_attempt(f"fast {number}", "label", 0.0, "fast-4")
        ledger.log_attempt(f"small {number}", "label", 0.0, f"{labeler.fingerprint}-2")
    with pytest.raises(BudgetSpent, match=r"^5 of 5.5 core-hours are spent"):
        obtain(labeler, copper(20), ledger, SerialWorkers())
    assert n_started(orders) == 5  # four to see what they cost, and the one that fits


def test_the_time_of_an_interrupted_calculation_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(AseLabeler, "label", interrupted)
    ledger = Ledger(tmp_path / "labels")
    with pytest.raises(KeyboardInterrupt):
        obtain(EMT, copper(1), ledger, SerialWorkers())
    ((outcome, seconds),) = ((one["outcome"], one["seconds"]) for one in ledger.attempts())
    assert outcome == "lost"
    assert seconds >= 0.05


DYING = """
import os, pickle, sys
from pathlib import Path
from activeph.calculation import calculate
from activeph.store.ledger import Ledger
record = Ledger.put
def put(*args):
    if sys.argv[2] == "after":
        record(*args)
    os.kill(os.getpid(), 9)
Ledger.put = put
calculate(pickle.loads(Path(sys.argv[1]).read_bytes()))
"""


@pytest.mark.parametrize(("moment", "outcomes"), [("before", ["lost", "label"]), ("after", ["label"])])
def test_who_dies_beside_recording_a_label_has_its_cost_noted_once(
    tmp_path: Path, moment: str, outcomes: list[str]
) -> None:
    (configuration,) = copper(1)
    key, ledger = label_key(configuration, EMT.fingerprint), Ledger(tmp_path / "labels")
    task = LabelTask(EMT, configuration, key, ledger)
    (tmp_path / "task.pickle").write_bytes(pickle.dumps(task))
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path / "task.pickle"), moment], check=False)
    assert died.returncode == -signal.SIGKILL
    assert ledger.sweep() == (moment == "before")
    assert calculate(task) is None
    assert [(attempt["key"], attempt["outcome"]) for attempt in ledger.attempts()] == [(key, each) for each in outcomes]


DRIVER = """
import pickle, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from activeph.execute.processes import ProcessExecutor
from activeph.labelling import obtain
from activeph.store.ledger import Ledger
labeler, configurations = pickle.loads(Path(sys.argv[2]).read_bytes())
with ProcessExecutor(workers=2).start() as workers:
    obtain(labeler, configurations, Ledger(Path(sys.argv[3])), workers)
"""


def test_a_killed_driver_loses_nothing_and_repeats_nothing(troubled: tuple[AseLabeler, Path], tmp_path: Path) -> None:
    labeler, orders = troubled
    (orders / "seconds").write_text("0.15")
    ledger = Ledger(tmp_path / "labels")
    work = tmp_path / "work.pickle"
    work.write_bytes(pickle.dumps((labeler, copper(12))))
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(work), str(ledger.root)]
    kills = 0
    for n_wanted in (1, 5):
        driver = subprocess.Popen(command, start_new_session=True)
        while driver.poll() is None and len(list(ledger.keys())) < n_wanted:
            time.sleep(0.01)
        if driver.poll() is None:
            os.kill(driver.pid, signal.SIGKILL)
            kills += 1
        driver.wait()
        before = set(ledger.keys())
        time.sleep(0.4)  # longer than a calculation: an orphan would finish now
        assert set(ledger.keys()) == before
    assert kills == 2
    assert subprocess.run(command, check=False).returncode == 0
    assert len(list(ledger.keys())) == 12
    ledger.sweep()
    counts = Counter(calculation["key"] for calculation in ledger.calculations())
    assert counts == Counter(ledger.keys())
    hidden = [name for shelf in ledger.root.iterdir() for name in os.listdir(shelf) if name.startswith(".")]
    assert hidden == []
    assert n_started(orders) <= 12 + 2 * kills  # only what was under way was begun again


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.integration
def test_a_campaign_goes_on_when_a_full_disk_was_made_larger(small_disk: Path) -> None:
    ledger, configurations = Ledger(small_disk / "labels"), copper(60)
    with ProcessExecutor(workers=2).start() as workers:
        with pytest.raises(Paused, match="No space left on device"):
            obtain(EMT, configurations, ledger, workers)
        before = {key: ledger.get(key) for key in sorted(ledger.keys())}
        assert 0 < len(before) < 60
        assert all(isinstance(outcome, Label) for outcome in before.values())  # what is there is whole
        subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
        assert len(obtain(EMT, configurations, ledger, workers)) == 60
    counts = Counter(calculation["key"] for calculation in ledger.calculations())
    assert set(counts.values()) == {1}
    assert {state for _, state in ledger.states()} == {"label"}


@pytest.mark.integration
def test_a_directory_that_became_read_only_pauses(small_disk: Path) -> None:
    ledger, configurations = Ledger(small_disk / "labels"), copper(4)
    obtain(EMT, configurations[:2], ledger, SerialWorkers())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(Paused, match="Read-only file system"):
        obtain(EMT, configurations, ledger, SerialWorkers())
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert len(obtain(EMT, configurations, ledger, SerialWorkers())) == 4
