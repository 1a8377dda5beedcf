"""What selectors are worth on a pool whose labels are all known: test errors beside those of random selection.

    python benchmarks/replay.py LABELLED --structure FILE --supercell 2 2 2 --force-constants FILE > replay.json

Every repeat shuffles the file: a test set, an initial set, and the rest is the pool of all rounds. All selectors start
from the same labels in the same repeat; the model is ``modes``, which trains in a fraction of a second. Prints one
JSON object: by selector and target, how MAE, RMSE, 95 % quantile and largest of the absolute errors differ from random
selection in %, as the mean over repeats and rounds of the logarithm of the ratio, with a 95 % interval over repeats
(normal approximation). A selector is written as in a campaign file: ``lcmd`` or ``"{kind: quota, using: lcmd}"``.
Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from models import load, part

from activeph.kinds import load_kind
from activeph.models.modes import ModesModel
from activeph.records import Dataset, Facts, System
from activeph.seeds import generator
from activeph.select.base import Selector
from activeph.systems.load import load_system

MEASURES = ("MAE", "RMSE", "95 %", "largest")
TARGETS_SHOWN = ["band_gap", "valence_band_maximum", "energy_per_atom", "hydrostatic_stress"]
KINDS = ("lcmd", "typiclust", "maxdet", "kmeans++", "uncertainty")


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    system = load_system("crystal", options.structure, options.supercell, options.force_constants)
    whole = load(options.labelled, system, options.targets)
    selectors = {text: selector(text) for text in ("random", *options.select)}
    errors: dict[str, list[np.ndarray]] = {text: [] for text in selectors}
    for repeat in range(options.repeats):
        order = np.random.default_rng(repeat).permutation(len(whole))
        test, rest = part(whole, order[: options.n_test]), order[options.n_test :]
        for text, chooser in selectors.items():
            errors[text].append(trajectory(chooser, whole, test, rest, system, options, repeat))
            print(f"repeat {repeat}: {text}", file=sys.stderr, flush=True)
    results = {text: compared(errors[text], errors["random"], options.targets) for text in options.select}
    names = ("labelled", "n_test", "initial", "batch", "labels", "repeats")
    print(json.dumps({"settings": {name: str(getattr(options, name)) for name in names}, "results": results}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--structure", type=Path, required=True)
    parser.add_argument("--supercell", type=int, nargs=3, default=(2, 2, 2))
    parser.add_argument("--force-constants", type=Path, required=True)
    parser.add_argument("--select", nargs="+", default=KINDS)
    parser.add_argument("--n-test", type=int, default=250)
    parser.add_argument("--initial", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--labels", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--targets", nargs="+", default=TARGETS_SHOWN)
    return parser.parse_args()


def selector(text: str) -> Selector:
    """Return the selector that a word or a YAML mapping describes."""
    settings = yaml.safe_load(text)
    settings = {"kind": settings} if isinstance(settings, str) else settings
    return load_kind("selectors", settings["kind"]).model_validate(settings)  # type: ignore[return-value]


def trajectory(
    chooser: Selector,
    whole: Dataset,
    test: Dataset,
    rest: np.ndarray,
    system: System,
    options: argparse.Namespace,
    repeat: int,
) -> np.ndarray:
    """Return the measures [rounds, targets, measures] of one repeat, from the first batch on."""
    systems, measured = {system.name: system}, []
    model = ModesModel(members=3 if getattr(chooser, "needs_spread", False) else 1)
    labelled, free = rest[: options.initial], rest[options.initial :]
    while True:
        train = part(whole, labelled)
        states = [model.fit(train, systems, member) for member in range(model.members)]
        predictor = model.load(states, systems)
        measured.append(measures(np.abs(predictor.predict(test.blocks[0]).mean - test.targets)))
        if len(labelled) >= options.labels:
            return np.array(measured[1:])
        pool = part(whole, free).blocks[0]
        kelvins = pool.temperatures.astype(np.float32)
        facts = Facts((system.name,), np.zeros(len(pool), dtype=np.int16), kelvins, np.ones(1), whole.target_names)
        scores = replace(predictor.predict(pool), facts=facts)
        asked = scores if chooser.needs_model else facts if getattr(chooser, "needs_facts", False) else len(pool)
        known = predictor.predict(train.blocks[0]).features
        rng = generator("s", repeat, len(measured) - 1)
        chosen = chooser.select(asked, known, min(options.batch, options.labels - len(labelled)), rng)
        labelled, free = np.concatenate([labelled, free[chosen]]), np.delete(free, chosen)


def measures(errors: np.ndarray) -> np.ndarray:
    """Return mean, root mean square, 95 % quantile and largest [targets, 4] of absolute errors [S, targets]."""
    rms = np.sqrt(np.mean(errors**2, axis=0))
    return np.stack([errors.mean(axis=0), rms, np.quantile(errors, 0.95, axis=0), errors.max(axis=0)], axis=1)


def compared(own: list[np.ndarray], random: list[np.ndarray], targets: list[str]) -> dict[str, dict[str, list[float]]]:
    """Return by target and measure the difference from random in % and half its 95 % interval."""
    ratios = np.log(np.array(own) / np.array(random)).mean(axis=1)  # [repeats, targets, measures]
    means = 100 * ratios.mean(axis=0)
    halves = (
        196 * ratios.std(axis=0, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else np.full(means.shape, np.nan)
    )
    return {
        target: {name: [round(float(means[t, m]), 1), round(float(halves[t, m]), 1)] for m, name in enumerate(MEASURES)}
        for t, target in enumerate(targets)
    }


if __name__ == "__main__":
    main()
