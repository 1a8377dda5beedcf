"""What pair terms save a renormalisation: errors of refitted phonons with and without them, on the same labels.

``python benchmarks/renormalisation.py [LABELS] [--structure FILE] [--force-constants FILE]`` reads labelled thermal
draws (default: those of Ag3SBr that the repository holds) and the effective force constants they belong to. The peer is
the usual least-squares fit of force constants alone (symfc's basis), by the same code with the pair terms left out.
Errors are delete-a-group jackknife ones, root mean square over all frequencies. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from activeph.phonons.fit import ForceConstantFit
from activeph.phonons.gaussian import ThermalGaussian
from activeph.phonons.modes import harmonic_modes
from activeph.phonons.moments import Moments, explained, grouped_moments, pair_coefficients, total_moments
from activeph.phonons.pair_terms import PairTerms
from activeph.systems import load_system

CAMPAIGNS = Path(__file__).parents[1] / "campaigns"


def main() -> None:
    options = parse()
    system = load_system("crystal", options.structure, options.supercell, options.force_constants)
    fit, pairs = ForceConstantFit(system), PairTerms(system)
    frames = ase.io.read(options.labels, ":")
    cell = system.supercell
    u = np.array([frame.positions for frame in frames]) - cell.positions
    u -= np.rint(u @ np.linalg.inv(cell.cell)) @ cell.cell
    u -= u.mean(axis=1, keepdims=True)
    forces = np.array([frame.arrays["REF_forces"] for frame in frames])
    gaussian = ThermalGaussian(harmonic_modes(system), system.masses, options.temperature, "quantum", 0.05)
    constants = pairs.average(gaussian.covariance()).constants

    def measured(rows: slice, with_pairs: bool) -> dict[str, Any]:
        start = time.process_time()
        _, pair_forces = pairs.evaluate(u[rows])
        both = np.concatenate([forces[rows][..., None], pair_forces], axis=3)
        groups = grouped_moments(fit, u[rows], both, np.ones(len(both)))
        used, without = pair_coefficients(groups)
        if not with_pairs:
            used, without = 0 * used, [0 * one for one in without]
        total = total_moments(groups)

        def frequencies(moments: Moments, pair: np.ndarray) -> np.ndarray:
            known = fit.parameters(np.tensordot(pair, constants, 1))
            rest = np.linalg.lstsq(moments.hh, moments.remainder(pair), rcond=1e-8)[0]
            refitted = dataclasses.replace(system, force_constants=fit.constants(known + rest))
            return np.sort(harmonic_modes(refitted).frequencies)

        parts = [frequencies(total - group, pair) for group, pair in zip(groups, without, strict=True)]
        errors = np.std(parts, axis=0) * np.sqrt(len(parts) - 1)
        return {
            "forces_explained": round(explained(total, used), 3),
            "frequency_error_THz": round(float(np.sqrt(np.mean(errors**2))), 3),
            "lowest_THz": round(float(frequencies(total, used)[0]), 3),
            "cpu_s": round(time.process_time() - start, 2),
        }

    sizes = [n for n in (16, 24, 32, 48) if n <= len(frames)]
    rows = {n: slice(len(frames) - n, None) for n in sizes}  # the last ones: drawn closest to the answer
    result = {
        str(n): {"ours": measured(rows[n], True), "force constants alone": measured(rows[n], False)} for n in sizes
    }
    print(json.dumps({"labels": str(options.labels.name), "last": result}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, nargs="?", default=CAMPAIGNS / "labels" / "Ag3SBr-gpaw-300K.extxyz")
    parser.add_argument("--structure", type=Path, default=CAMPAIGNS / "structures" / "Ag3SBr.vasp")
    parser.add_argument("--supercell", type=int, nargs=3, default=(2, 2, 2))
    parser.add_argument("--force-constants", type=Path, default=CAMPAIGNS / "structures" / "Ag3SBr-300K.yaml")
    parser.add_argument("--temperature", type=float, default=300.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
