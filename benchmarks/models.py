"""How well each model learns from few labels: test errors, R², calibration and training time on labelled files.

    python benchmarks/models.py LABELLED --structure FILE --supercell 2 2 2 --force-constants FILE > models.json

For every seed the file is shuffled; the first part is the test set, training sets are nested prefixes of the rest, the
same for all models. With ``--test FILE`` that file is the test set and all of LABELLED is trained on. Prints one JSON
object: means over seeds with their standard errors; with ``--table error-bars`` how right the error bars are, in
Markdown. A kind may have keys: --kinds gnn "gnn force_weight=0". With ``--low-fidelity "xtb method=GFN1-xTB"`` that
code is asked about all structures first, and models learn corrections to it. Larger files are made by ``make_pool.py``.
Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.io import read

from activeph.dataset import make_dataset
from activeph.execute.processes import ProcessExecutor
from activeph.kinds import load_kind
from activeph.label.frames import read_frames
from activeph.low_fidelity import ask
from activeph.models.calibration import calibration_metrics
from activeph.models.learner import learner
from activeph.progress import NoProgress
from activeph.records import Block, Dataset, System
from activeph.systems.load import load_system
from activeph.targets import STRESS_COMPONENTS, spell_out

KINDS = ("origin", "gnn", "modes", "modes-gnn")
COLUMNS = {
    "area": "miscalibration_area",
    "68 %": "coverage_68",
    "95 %": "coverage_95",
    "Spearman": "spearman",
    "NLL": "nll in spreads",
}
"""Of the table of error bars; the likelihood's is that of errors in standard deviations of the test set's targets."""


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    system = load_system("crystal", options.structure, options.supercell, options.force_constants)
    systems = {system.name: system}
    options.targets = spell_out(options.targets)
    whole = load(options.labelled, system, options.targets)
    fixed = load(options.test, system, options.targets) if options.test else None
    if options.low_fidelity:
        whole = with_low_fidelity(whole, options.low_fidelity)
        fixed = with_low_fidelity(fixed, options.low_fidelity) if fixed else None
    rows = []
    for kind in options.kinds:
        for size in options.labels:
            records = []
            for seed in range(options.seeds):
                order = np.random.default_rng(seed).permutation(len(whole))
                start = 0 if fixed else options.n_test
                test = fixed or part(whole, order[:start])
                train = part(whole, order[start : start + size])
                records.append(measure(kind, train, test, systems, seed, options.members))
            rows.append({"kind": kind, "labels": size, **summary(records)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if options.table:
        print(error_bars(rows, options.targets))
        return
    names = ("labelled", "test", "n_test", "seeds", "members", "targets", "low_fidelity")
    print(json.dumps({"settings": {name: str(getattr(options, name)) for name in names}, "results": rows}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--structure", type=Path, required=True)
    parser.add_argument("--supercell", type=int, nargs=3, default=(2, 2, 2))
    parser.add_argument("--force-constants", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--n-test", type=int, default=200)
    parser.add_argument("--labels", type=int, nargs="+", default=(25, 50, 100, 200, 400))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument(
        "--targets",
        nargs="+",
        default=("band_gap", "valence_band_maximum", "energy_per_atom", "hydrostatic_stress"),
    )
    parser.add_argument("--low-fidelity", metavar="KIND", help="a labeler whose band edges the models correct")
    parser.add_argument("--table", choices=("error-bars",), help="print this table instead of JSON")
    return parser.parse_args()


def load(path: Path, system: System, targets: list[str]) -> Dataset:
    """Return all labels of a file; single finite displacements (``kind=fd``) are left out."""
    frames = read(path, index=":")
    labels = read_frames(path)
    kept = [n for n, atoms in enumerate(frames) if atoms.info.get("kind") != "fd"]
    temperatures = [float(frames[n].info.get("T", np.nan)) for n in kept]
    return make_dataset([labels[n] for n in kept], [system.name] * len(kept), temperatures, targets)


def with_low_fidelity(dataset: Dataset, words: str) -> Dataset:
    """Return the dataset with what a cheap code says of its structures, ``kind key=value ...``."""
    kind, *keys = words.split()
    labeler = load_kind("labelers", kind)(**dict(key.split("=", 1) for key in keys))
    (block,) = dataset.blocks
    configurations = [block.configuration(row) for row in range(len(block))]
    with ProcessExecutor().start() as workers, NoProgress().stage("low fidelity", len(block)) as stage:
        values = ask(labeler, configurations, workers, stage)
    return replace(dataset, blocks=(replace(block, low_fidelity=values),))


def part(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Return some rows of a dataset of one system."""
    (block,) = dataset.blocks
    arrays = (block.species, block.positions, block.cells, block.temperatures)
    low = None if block.low_fidelity is None else block.low_fidelity[rows]
    return Dataset(
        (Block(block.system, *(array[rows] for array in arrays), low),),
        dataset.target_names,
        dataset.targets[rows],
        dataset.energies[rows],
        (dataset.forces[0][rows],),
        dataset.stresses[rows],
    )


def measure(
    kind: str, train: Dataset, test: Dataset, systems: dict[str, System], seed: int, members: int
) -> dict[str, float]:
    word, *keys = kind.split()
    values = {name: json.loads(value) for name, value in (key.split("=", 1) for key in keys)}
    known = load_kind("models", word)
    members = members if "members" in known.model_fields else 1  # some kinds are error bars of one network
    own = {"members": members} if "members" in known.model_fields else {}
    model = learner(known(**own, **values), train.target_names, train.blocks[0].low_fidelity is not None)
    start = time.process_time()
    states = [model.fit(train, systems, 1000 * seed + member) for member in range(members)]
    record = {"seconds_per_member": (time.process_time() - start) / members}
    prediction = model.load(states, systems).predict(test.blocks[0])
    temperatures = test.blocks[0].temperatures
    for p, name in enumerate(test.target_names):
        truth, errors = test.targets[:, p], (prediction.mean - test.targets)[:, p]
        record[f"{name}: MAE"] = float(np.abs(errors).mean())
        record[f"{name}: median error"] = float(np.median(np.abs(errors)))
        record[f"{name}: RMSE"] = float(np.sqrt(np.mean(errors**2)))
        record[f"{name}: R2"] = r2(truth, errors)
        for temperature in np.unique(temperatures[np.isfinite(temperatures)]):
            own = temperatures == temperature
            if own.sum() < 10:
                continue
            record[f"{name}: R2 at {temperature:g} K"] = r2(truth[own], errors[own])
        quality = calibration_metrics(errors, prediction.std[:, p])
        quality["nll in spreads"] = quality["nll"] - float(np.log(truth.std()))
        record |= {f"{name}: {word}": value for word, value in quality.items()}
    return record


def error_bars(rows: list[dict[str, Any]], targets: Sequence[str]) -> str:
    """Return how right the error bars are: means over seeds, and over components of the stress of one sort."""
    groups = {name: [name] for name in targets if name not in STRESS_COMPONENTS}
    for word, part in (("diagonal stress", slice(0, 3)), ("off-diagonal stress", slice(3, 6))):
        if own := [name for name in STRESS_COMPONENTS[part] if name in targets]:
            groups[word] = own
    head = [*(COLUMNS), "± of the area"]
    lines = ["| model | labels | target | " + " | ".join(head) + " |", "|" + "---|" * (3 + len(head))]
    for row in rows:
        for word, names in groups.items():
            figures = [
                np.mean([[row[f"{name}: {key}"][which] for key in COLUMNS.values()] for name in names], axis=0)
                for which in ("mean", "error")
            ]
            cells = [f"{value:.{2 if key != 'area' else 3}f}" for key, value in zip(COLUMNS, figures[0], strict=True)]
            label = f"| {row['kind']} | {row['labels']} | {word.replace('_', ' ')} | "
            lines.append(label + " | ".join([*cells, f"{figures[1][0]:.3f}"]) + " |")
    return "\n".join(lines)


def r2(truth: np.ndarray, errors: np.ndarray) -> float:
    return float(1 - np.sum(errors**2) / np.sum((truth - truth.mean()) ** 2))


def summary(records: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return mean and standard error of every figure over the seeds."""
    result = {}
    for name in [name for name in records[0] if all(name in record for record in records)]:
        values = np.array([record[name] for record in records])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        result[name] = {"mean": round(float(values.mean()), 5), "error": round(float(error), 5)}
    return result


if __name__ == "__main__":
    main()
