"""What the loop and its workers add to a label: processor time per label. Prints one JSON object.

``python benchmarks/driver.py [N]``: N labels (default 1000) on two worker processes, each waiting 0.05 s in place of a
code. The driver's processor time and that of its workers, which holds start-up, writing and flushing of the record, are
compared with labels of 10 s. The clock is not used: it measures who else uses the machine.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_ATOMS, WAIT, LABEL_SECONDS, WORKERS = 40, 0.05, 10.0, 2
CALCULATOR = '''
import time
import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Waiting(Calculator):
    """Waits, and answers with numbers of the right shapes."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.seconds)
        self.results = {"energy": -1.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}
'''


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(prefix="activeph-driver-") as name:
        folder = Path(name)
        (folder / "waiting_calculator.py").write_text(CALCULATOR)
        sys.path.insert(0, str(folder))
        from activeph.execute.processes import ProcessExecutor
        from activeph.label.ase_calculator import AseLabeler
        from activeph.labelling import obtain
        from activeph.records import Configuration
        from activeph.store.ledger import Ledger

        labeler = AseLabeler(calculator="waiting_calculator:Waiting", arguments={"seconds": WAIT})
        rng = np.random.default_rng(0)
        numbers, cell = np.tile([47, 47, 47, 16, 35], N_ATOMS // 5), np.diag([12.0, 12.0, 15.0])
        sites = np.argwhere(np.ones((2, 4, 5))) * [6.0, 3.0, 3.0]  # far enough apart to be taken for a crystal
        wanted = [Configuration(numbers, sites + rng.normal(scale=0.02, size=(N_ATOMS, 3)), cell) for _ in range(n)]
        ledger = Ledger(folder / "labels")
        start, cpu = time.perf_counter(), time.process_time()
        with ProcessExecutor(workers=WORKERS).start() as workers:
            assert len(obtain(labeler, wanted, ledger, workers)) == n
        driver, clock = time.process_time() - cpu, time.perf_counter() - start
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        added = (driver + children.ru_utime + children.ru_stime) / n
        result = {
            "benchmark": "driver",
            "labels": n,
            "workers": WORKERS,
            "driver_cpu_seconds_per_label": driver / n,
            "workers_cpu_seconds_per_label": (children.ru_utime + children.ru_stime) / n,
            "share_of_10_s_labels": added / LABEL_SECONDS,
            "driver_alone": driver / n / LABEL_SECONDS,
            "clock_seconds": clock,
            "load": os.getloadavg()[0],
        }
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
