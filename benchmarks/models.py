"""How well each model learns from few labels: test errors, R², calibration and training time on labelled files.

    python benchmarks/models.py LABELLED --structure FILE --supercell 2 2 2 --force-constants FILE > models.json

For every seed the file is shuffled; the first part is the test set, training sets are nested prefixes of the rest, the
same for all models. With ``--test FILE`` that file is the test set and all of LABELLED is trained on. Prints one JSON
object: means over seeds with their standard errors. A kind may have keys: --kinds gnn "gnn force_weight=0". Larger
files are made by ``make_pool.py``. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase.io import read

from activeph.dataset import make_dataset
from activeph.kinds import load_kind
from activeph.label.frames import read_frames
from activeph.models.calibration import calibration_metrics
from activeph.models.stress import with_stress
from activeph.records import Block, Dataset, System
from activeph.systems.load import load_system
from activeph.targets import spell_out

KINDS = ("origin", "gnn", "modes", "modes-gnn")


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    system = load_system("crystal", options.structure, options.supercell, options.force_constants)
    systems = {system.name: system}
    options.targets = spell_out(options.targets)
    whole = load(options.labelled, system, options.targets)
    fixed = load(options.test, system, options.targets) if options.test else None
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
    names = ("labelled", "test", "n_test", "seeds", "members", "targets")
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
    return parser.parse_args()


def load(path: Path, system: System, targets: list[str]) -> Dataset:
    """Return all labels of a file; single finite displacements (``kind=fd``) are left out."""
    frames = read(path, index=":")
    labels = read_frames(path)
    kept = [n for n, atoms in enumerate(frames) if atoms.info.get("kind") != "fd"]
    temperatures = [float(frames[n].info.get("T", np.nan)) for n in kept]
    return make_dataset([labels[n] for n in kept], [system.name] * len(kept), temperatures, targets)


def part(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Return some rows of a dataset of one system."""
    (block,) = dataset.blocks
    arrays = (block.species, block.positions, block.cells, block.temperatures)
    return Dataset(
        (Block(block.system, *(array[rows] for array in arrays)),),
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
    model = with_stress(load_kind("models", word)(members=members, **values), train.target_names)
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
        record |= {f"{name}: {word}": value for word, value in quality.items()}
    return record


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
