"""Opening a ledger of many labels, beside an ASE database of the same labels. Prints one JSON object.

``python benchmarks/ledger.py [N]``: N labels of 40 atoms (default 100 000), written to a temporary directory without
waiting for the disk; file-system caches are warm for both.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_ATOMS, N_BANDS, N_READ = 40, 250, 1000

OPEN_OURS = """
from activeph.store.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
states = dict(ledger.states())
n = sum(state == "label" for state in states.values())
"""
OPEN_PEER = """
from ase.db import connect
n = sum(1 for row in connect(sys.argv[1]).select(include_data=False))
"""
FRAME = """
import sys, time, resource
from pathlib import Path
start = time.perf_counter()
{body}
print(n, time.perf_counter() - start, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(root: Path, database: Path, n: int) -> tuple[list[str], dict[str, float]]:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect

    from activeph.records import Configuration, Label
    from activeph.store.ledger import Ledger
    from activeph.store.records_io import write_outcome

    rng = np.random.default_rng(0)
    numbers, cell = np.tile([47, 47, 47, 16, 35], N_ATOMS // 5), np.eye(3) * 9.86
    bands = rng.normal(size=(1, 1, N_BANDS))
    ledger, keys, seconds = Ledger(root), [], {"ours": 0.0, "peer": 0.0}
    with connect(database) as rows:
        for index in range(n):
            positions = rng.random((N_ATOMS, 3)) * 9.86
            forces = rng.normal(size=(N_ATOMS, 3))
            label = Label(
                Configuration(numbers, positions, cell), -1.0, forces, np.zeros(6), 1.0, 1.0, 0.0, 1.0, bands, bands
            )
            keys.append(rng.bytes(12).hex())
            start = time.perf_counter()
            directory = ledger.directory(keys[-1])
            directory.mkdir(parents=True)
            write_outcome(directory, keys[-1], label.configuration, label)
            middle = time.perf_counter()
            atoms = Atoms(numbers, positions, cell=cell, pbc=True)
            atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces, stress=np.zeros(6))
            rows.write(atoms, band_gap=1.0, key=f"k{keys[-1]}", data={"eigenvalues": bands})
            seconds["ours"] += middle - start
            seconds["peer"] += time.perf_counter() - middle
            if index % 10_000 == 0:
                print(f"{index} of {n} written", file=sys.stderr)
    return keys, seconds


def opened(body: str, path: Path, n: int) -> dict[str, float]:
    """Time opening in fresh processes; imports are part of it."""
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", FRAME.format(body=body), str(path)]
        found, seconds, cpu, megabytes = subprocess.run(
            command, capture_output=True, check=True, text=True
        ).stdout.split()
        assert int(found) == n
        runs.append((float(seconds), float(cpu), float(megabytes)))
    seconds, cpu, megabytes = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"seconds": seconds, "cpu_seconds": cpu, "megabytes": megabytes}


def read(root: Path, database: Path, keys: list[str]) -> dict[str, float]:
    """Time reading single labels by key, as a resumed campaign does."""
    from ase.db import connect

    from activeph.records import Label
    from activeph.store.ledger import Ledger

    chosen = [keys[i] for i in np.random.default_rng(1).choice(len(keys), min(N_READ, len(keys)), replace=False)]
    start = time.perf_counter()
    ledger = Ledger(root)
    assert all(isinstance(ledger.get(key), Label) for key in chosen)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    rows = connect(database)
    few = chosen[:20]
    for key in few:
        rows.get(key=f"k{key}").toatoms()
    peer = (time.perf_counter() - start) * len(chosen) / len(few)
    return {"labels": len(chosen), "ours_seconds": ours, "peer_seconds": peer, "ratio": peer / ours}


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="activeph-ledger-") as folder:
        root, database = Path(folder) / "labels", Path(folder) / "labels.db"
        keys, written = write(root, database, n)
        ours, peer = opened(OPEN_OURS, root, n), opened(OPEN_PEER, database, n)
        result = {
            "benchmark": "ledger",
            "labels": n,
            "write_seconds_without_fsync": written,
            "open": {"ours": ours, "ase_db": peer, "ratio": peer["seconds"] / ours["seconds"]},
            "read_by_key": read(root, database, keys),
            "peak_megabytes_of_this_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(result, indent=1), flush=True)  # removing the files takes longer than reading them


if __name__ == "__main__":
    main()
