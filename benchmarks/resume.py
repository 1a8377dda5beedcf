"""A campaign with 100 000 labels, resumed: how long until the first new calculation begins? Prints one JSON object.

``python benchmarks/resume.py [N]``: two arms of two repeats, N labels of 40 atoms in all (default 100 000), rounds of
N / 100 labels per repeat, stopped where batches of 250 of the next round are chosen and none is calculated. The run
directory is made by hand (its labels share one file of arrays), then ``activeph run`` is started and watched until its
calculator is called. Seconds are those of the clock and of the driver's processor; opening the ledger is timed alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUNDS, BATCH = 25, 250
CU3AU = "Cu3Au\n1.0\n3.75 0 0\n0 3.75 0\n0 0 3.75\nAu Cu\n1 3\nDirect\n0 0 0\n0 0.5 0.5\n0.5 0 0.5\n0.5 0.5 0\n"
CALCULATOR = '''
import os, pathlib, time
from ase.calculators.emt import EMT


class Watched(EMT):
    """Says when it is called first, and then takes its time."""

    def __init__(self, sign):
        super().__init__()
        self.sign = pathlib.Path(sign)

    def calculate(self, *args, **kwargs):
        if (self.sign.parent / "watch").exists():
            self.sign.touch()
            time.sleep(600)
        super().calculate(*args, **kwargs)
'''
OPEN = """
import resource, sys, time
from pathlib import Path
start, cpu = time.perf_counter(), time.process_time()
from activeph.store.ledger import Ledger
states = dict(Ledger(Path(sys.argv[1])).states())
print(len(states), time.perf_counter() - start, time.process_time() - cpu)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def campaign_file(folder: Path, n: int) -> Path:
    """Write the campaign: initial sets and batches of the same size, one round more than there are labels."""
    batch = n // 4 // ROUNDS
    (folder / "Cu3Au.vasp").write_text(CU3AU)
    (folder / "watched_calculator.py").write_text(CALCULATOR)
    path = folder / "campaign.yaml"
    path.write_text(
        f"""systems: [{{structure: Cu3Au.vasp, supercell: [1, 2, 5]}}]
label: {{kind: ase, calculator: "watched_calculator:Watched", arguments: {{sign: {folder}/sign}}}}
targets: [energy_per_atom, hydrostatic_stress]
arms:
  phonon: {{sample: phonon, select: random}}
  random: {{sample: random, select: random}}
model: {{kind: modes, members: 2}}
budget: {{labels: {n // 4 + batch}, initial: {batch}, batch: {batch}, repeats: 2}}
pool: {2 * batch}
test: {{n: 20}}
"""
    )
    return path


def start(folder: Path, path: Path) -> subprocess.Popen[bytes]:
    """Start the driver with the calculator on its path."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", "from activeph.cli.main import main; main()", "run", str(path)]
    return subprocess.Popen([*command, "--output", str(folder / "run")], env=environment, stderr=subprocess.DEVNULL)


def begin(folder: Path, path: Path) -> None:
    """Let the campaign prepare its crystal and choose, but not label: the calculator is stopped when asked."""
    driver = start(folder, path)
    while (
        not (folder / "run" / "journal.jsonl").exists()
        or "select" not in (folder / "run" / "journal.jsonl").read_text()
    ):
        assert driver.poll() is None
        time.sleep(0.1)
    driver.kill()
    driver.wait()


def fill(folder: Path, n: int) -> None:
    """Write the finished rounds into journal and ledger."""
    from activeph.records import Configuration, Label
    from activeph.store.ledger import Ledger
    from activeph.store.records_io import ARRAYS_NAME, LABEL_NAME, write_outcome

    rng = np.random.default_rng(0)
    journal, ledger = folder / "run" / "journal.jsonl", Ledger(folder / "run" / "labels")
    model = folder / "record"
    model.mkdir()
    numbers, bands = np.tile([79, 29, 29, 29], 10), rng.normal(size=(1, 1, 250))
    cell = np.diag([3.75, 7.5, 18.75])
    configuration = Configuration(numbers, rng.random((40, 3)) @ cell, cell)
    forces = rng.normal(size=(40, 3))
    label = Label(configuration, -1.0, forces, np.zeros(6), 1.0, 1.0, 0.0, 1.0, bands, bands, {"code": "emt"})
    write_outcome(model, "KEY", configuration, label)
    text = (model / LABEL_NAME).read_text()
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    test = next(event for event in events if event["event"] == "test")

    def record(key: str) -> None:
        directory = ledger.directory(key)
        directory.mkdir(parents=True)
        os.link(model / ARRAYS_NAME, directory / ARRAYS_NAME)
        (directory / LABEL_NAME).write_text(text.replace('"KEY"', f'"{key}"'))

    for pick in test["picks"]:
        record(pick["key"])
    lines = [test]
    batch = n // 4 // ROUNDS
    metrics = {"labels": 0, "targets": {}}
    for number in range(ROUNDS):
        places = [(arm, repeat) for repeat in (0, 1) for arm in ("phonon", "random")]
        for arm, repeat in places:
            keys = [rng.bytes(12).hex() for _ in range(batch)]
            for key in keys:
                record(key)
            picks = [
                {"id": f"{arm}-{repeat}-{number}-{i}", "system": "Cu3Au", "index": i, "temperature": 300.0, "key": key}
                | {"uncertainty": None}
                for i, key in enumerate(keys)
            ]
            step = {"arm": arm, "repeat": repeat, "round": number}
            lines.append({"event": "select", **step, "pool_size": 2 * batch, "picks": picks})
            lines += [{"event": name, **step} for name in ("label", "train")]
            lines.append({"event": "evaluate", **step, "metrics": metrics})
        print(f"{4 * (number + 1) * batch} of {n} labels written", file=sys.stderr)
    journal.write_text("".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines))


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def choose(folder: Path, path: Path) -> None:
    """Write the batches of the next round into the journal, as the campaign would choose them at random."""
    sys.path.insert(0, str(folder))
    from activeph.config import load_campaign
    from activeph.execute.serial import SerialWorkers
    from activeph.loop import Loop, picks_at, step_pools
    from activeph.means import Means
    from activeph.preparation import prepare_systems
    from activeph.progress import NoProgress
    from activeph.proposal import choose_at_random
    from activeph.rundir import RunDirectory
    from activeph.state import Step, selection_event
    from activeph.store.journal import Journal
    from activeph.store.ledger import Ledger

    campaign, directory = load_campaign(path), RunDirectory(folder / "run")
    ledger, journal, workers = Ledger(directory.labels), Journal(directory.journal), SerialWorkers()
    systems = prepare_systems(Means(campaign, directory, ledger, workers, NoProgress()))
    loop = Loop(campaign, systems, directory, journal, ledger, workers, NoProgress())
    for arm in campaign.arms:
        for repeat in range(campaign.budget.repeats):
            step = Step(arm, repeat, ROUNDS)
            pools = step_pools(loop, step)
            chosen = choose_at_random(1, pools, BATCH, ())
            journal.append(selection_event(step, picks_at(loop, pools, chosen, None), campaign.pool, None))


def resume(folder: Path, path: Path) -> list[dict[str, float]]:
    """Start the campaign twice; time each start until a worker calls the calculator. The first may find cold caches."""
    measured = []
    for _ in range(2):
        sign = folder / "sign"
        sign.unlink(missing_ok=True)
        begun = time.perf_counter()
        driver = start(folder, path)
        while not sign.exists():
            assert driver.poll() is None
            time.sleep(0.01)
        seconds, cpu = time.perf_counter() - begun, cpu_seconds(driver.pid)
        measured.append({"seconds": seconds, "driver_cpu_seconds": cpu, "load": os.getloadavg()[0]})
        driver.kill()
        driver.wait()
    return measured


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    folder = Path(tempfile.mkdtemp(prefix="activeph-resume-"))
    try:
        path = campaign_file(folder, n)
        begin(folder, path)
        fill(folder, n)
        choose(folder, path)
        (folder / "watch").touch()
        answer = subprocess.run(
            [sys.executable, "-c", OPEN, str(folder / "run" / "labels")], capture_output=True, text=True, check=True
        ).stdout.split()
        opened = dict(zip(("records", "seconds", "cpu_seconds", "megabytes"), map(float, answer), strict=True))
        result = {
            "benchmark": "resume",
            "labels": n,
            "open_ledger": opened,
            "until_first_calculation": resume(folder, path),
        }
        print(json.dumps(result, indent=1), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
