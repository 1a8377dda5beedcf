"""A campaign with 100 000 labels, resumed: how long until work begins? Prints one JSON object.

``python benchmarks/resume.py [N]``: two arms of two repeats (one selects by LCMD), N labels of 40 atoms in all (default
100 000) in 25 rounds, stopped at three places: where the batches of the next round are to be chosen, where they are
chosen and none is calculated, and where they are labelled and nothing is trained. The run directory is made by hand
(its labels share files of arrays), then ``activeph run`` is started and watched until it hands its first task to a
worker. Seconds are those of the clock and of the driver's processor. Each place is measured three times: without the
pack of labels, with the pack that the first start has left, and once more. Opening the ledger is timed alone.
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
from typing import Any

import numpy as np

ROUNDS = 25
MOST_LINKS = 50_000  # to one file: ext4 has room for 65 000
PLACES = [(arm, repeat) for repeat in (0, 1) for arm in ("phonon", "random")]
CU3AU = "Cu3Au\n1.0\n3.75 0 0\n0 3.75 0\n0 0 3.75\nAu Cu\n1 3\nDirect\n0 0 0\n0 0.5 0.5\n0.5 0 0.5\n0.5 0.5 0\n"
DRIVER = """
import pathlib, sys, time
from activeph.execute.processes import _Process

sign = pathlib.Path(sys.argv.pop(1))


def submit(self, *arguments):
    sign.touch()
    time.sleep(600)


_Process.submit = submit
from activeph.cli.main import main
main()
"""
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
    path = folder / "campaign.yaml"
    path.write_text(
        f"""systems: [{{structure: Cu3Au.vasp, supercell: [1, 2, 5]}}]
label: {{kind: ase, calculator: "ase.calculators.emt:EMT"}}
targets: [energy_per_atom, hydrostatic_stress]
arms:
  phonon: {{sample: phonon, select: lcmd}}
  random: {{sample: random, select: random}}
model: {{kind: modes, members: 2}}
budget: {{labels: {n // 4 + batch}, initial: {batch}, batch: {batch}, repeats: 2}}
pool: {2 * batch}
test: {{n: 20}}
"""
    )
    return path


def command(folder: Path, path: Path) -> list[str]:
    """Return the arguments of ``activeph run``."""
    return ["run", str(path), "--output", str(folder / "run")]


def begin(folder: Path, path: Path) -> None:
    """Let the campaign prepare its crystal and choose its test set; then stop it."""
    journal = folder / "run" / "journal.jsonl"
    program = "from activeph.cli.main import main; main()"
    driver = subprocess.Popen([sys.executable, "-c", program, *command(folder, path)], stderr=subprocess.DEVNULL)
    while not journal.exists() or "select" not in journal.read_text():
        assert driver.poll() is None
        time.sleep(0.1)
    driver.kill()
    driver.wait()


class Records:
    """Makes records of one label under many keys."""

    def __init__(self, folder: Path) -> None:
        from activeph.records import Configuration, Label
        from activeph.store.ledger import Ledger
        from activeph.store.records_io import ARRAYS_NAME, LABEL_NAME, write_outcome

        rng = np.random.default_rng(0)
        self._ledger, self._arrays, self._name = Ledger(folder / "run" / "labels"), folder / ARRAYS_NAME, LABEL_NAME
        numbers, bands = np.repeat([79, 29], [10, 30]), rng.normal(size=(1, 1, 250))
        cell = np.diag([3.75, 7.5, 18.75])
        configuration = Configuration(numbers, rng.random((40, 3)) @ cell, cell)
        facts = {"code": "emt", "wall_time": 1.0}
        forces = rng.normal(size=(40, 3))
        label = Label(configuration, -1.0, forces, np.zeros(6), 1.0, 1.0, 0.0, 1.0, bands, bands, facts)
        write_outcome(folder, "KEY", configuration, label)
        self._text = (folder / LABEL_NAME).read_text()
        self._count = 0

    def add(self, key: str) -> None:
        directory = self._ledger.directory(key)
        if not directory.exists():
            directory.mkdir(parents=True)
            source = self._arrays.with_name(f"arrays-{self._count // MOST_LINKS}")
            if not source.exists():
                shutil.copy(self._arrays, source)
            self._count += 1
            os.link(source, directory / self._arrays.name)
            (directory / self._name).write_text(self._text.replace('"KEY"', f'"{key}"'))


def fill(folder: Path, n: int, records: Records) -> None:
    """Write the finished rounds into journal and ledger."""
    rng = np.random.default_rng(1)
    journal = folder / "run" / "journal.jsonl"
    test = next(event for event in map(json.loads, journal.read_text().splitlines()) if event["event"] == "test")
    for pick in test["picks"]:
        records.add(pick["key"])
    lines = [test]
    batch = n // 4 // ROUNDS
    for number in range(ROUNDS):
        for arm, repeat in PLACES:
            keys = [rng.bytes(12).hex() for _ in range(batch)]
            for key in keys:
                records.add(key)
            fixed = {"system": "Cu3Au", "temperature": 300.0, "uncertainty": None}
            names = [f"{arm}-{repeat}-{number}-{i}" for i in range(batch)]
            picks = [
                {"id": name, "index": i, "key": key} | fixed
                for i, (name, key) in enumerate(zip(names, keys, strict=True))
            ]
            step = {"arm": arm, "repeat": repeat, "round": number}
            lines.append({"event": "select", **step, "pool_size": 2 * batch, "picks": picks})
            lines += [{"event": name, **step} for name in ("label", "train")]
            lines.append({"event": "evaluate", **step, "metrics": {"labels": 0, "targets": {}}})
            leave_files(folder / "run", arm, repeat, number)
        print(f"{4 * (number + 1) * batch} of {n} labels written", file=sys.stderr)
    journal.write_text("".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines))


def leave_files(run: Path, *step: Any) -> None:
    """Leave something where a round's files are: what is missing would be made again before anything else."""
    from activeph.rundir import RunDirectory

    files = RunDirectory(run)
    members = [files.member(*step, number) for number in range(2)]
    for path in (*members, files.selection(*step), files.metrics(*step), files.predictions(*step), files.truth):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("-")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def choose(folder: Path, path: Path) -> list[str]:
    """Write the batches of the next round into the journal, chosen at random; return their keys."""
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
    keys = []
    for arm, repeat in PLACES:
        step = Step(arm, repeat, ROUNDS)
        pools = step_pools(loop, step)
        picks = picks_at(loop, pools, choose_at_random(1, pools, campaign.budget.batch, ()), None)
        journal.append(selection_event(step, picks, campaign.pool, None))
        keys += [pick.key for pick in picks]
    return keys


def labelled(folder: Path) -> None:
    """Write into the journal that the batches are labelled."""
    with (folder / "run" / "journal.jsonl").open("a") as stream:
        for arm, repeat in PLACES:
            line = {"event": "label", "arm": arm, "repeat": repeat, "round": ROUNDS}
            stream.write(f"{json.dumps(line, separators=(',', ':'))}\n")


def resume(folder: Path, path: Path) -> dict[str, dict[str, float]]:
    """Start the campaign three times; time each start until its first task. Only the first finds no pack of labels."""
    (folder / "run" / "labels.pack").unlink(missing_ok=True)
    return {name: _resumed_once(folder, path) for name in ("without_pack", "with_pack", "again")}


def _resumed_once(folder: Path, path: Path) -> dict[str, float]:
    sign = folder / "sign"
    sign.unlink(missing_ok=True)
    begun = time.perf_counter()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(sign), *command(folder, path)], stderr=subprocess.DEVNULL
    )
    while not sign.exists():
        assert driver.poll() is None
        time.sleep(0.01)
    seconds, cpu = time.perf_counter() - begun, cpu_seconds(driver.pid)
    memory = Path(f"/proc/{driver.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    driver.kill()
    driver.wait()
    load = os.getloadavg()[0]
    return {"seconds": seconds, "driver_cpu_seconds": cpu, "megabytes": int(memory) / 1024, "load": load}


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    folder = Path(tempfile.mkdtemp(prefix="activeph-resume-"))
    try:
        path = campaign_file(folder, n)
        begin(folder, path)
        records = Records(folder)
        fill(folder, n, records)
        answer = subprocess.run(
            [sys.executable, "-c", OPEN, str(folder / "run" / "labels")], capture_output=True, text=True, check=True
        ).stdout.split()
        result: dict[str, Any] = {
            "benchmark": "resume",
            "labels": n,
            "open_ledger": dict(
                zip(("records", "seconds", "cpu_seconds", "megabytes"), map(float, answer), strict=True)
            ),
            "until_work": {"choosing": resume(folder, path)},
        }
        keys = choose(folder, path)
        result["until_work"]["labelling"] = resume(folder, path)
        for key in keys:
            records.add(key)
        labelled(folder)
        result["until_work"]["training"] = resume(folder, path)
        print(json.dumps(result, indent=1), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
