"""Crystals with known force constants: springs between atoms, built for any supercell, independent of the package."""

from __future__ import annotations

import os
import signal

# A shell starts background jobs with Ctrl-C ignored, which programs inherit; the tests send Ctrl-C to programs.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers run numerical libraries on one thread; tests do too, so that sums are added in the same order everywhere.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from activeph.records import Configuration, System
from activeph.rundir import RunDirectory
from activeph.systems.load import make_system


def _hexagonal(a: float, c: float) -> np.ndarray:
    return np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])


# name -> (atomic numbers, cell in Å, fractions, supercell)
CRYSTALS: dict[str, tuple[list[int], np.ndarray, list[list[float]], list[int]]] = {
    "perovskite": (
        [38, 22, 8, 8, 8],
        np.eye(3) * 3.9,
        [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        [2, 2, 2],
    ),
    "rocksalt": (
        [11] * 4 + [17] * 4,
        np.eye(3) * 5.6,
        [
            [0, 0, 0],
            [0, 0.5, 0.5],
            [0.5, 0, 0.5],
            [0.5, 0.5, 0],
            [0.5, 0.5, 0.5],
            [0.5, 0, 0],
            [0, 0.5, 0],
            [0, 0, 0.5],
        ],
        [1, 1, 1],
    ),
    "wurtzite": (
        [30, 30, 8, 8],
        _hexagonal(3.25, 5.2),
        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.88]],
        [3, 3, 2],
    ),
    "triclinic": (
        [47, 16, 35],
        np.array([[4.1, 0.3, -0.2], [0.5, 4.4, 0.7], [-0.6, 0.2, 5.0]]),
        [[0.02, 0.01, 0.05], [0.47, 0.55, 0.41], [0.7, 0.12, 0.66]],
        [2, 3, 1],
    ),
    "slab": ([5, 7], _hexagonal(2.5, 15.0), [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]], [3, 3, 1]),
    "chain": ([53, 35], np.diag([4.6, 14.0, 14.0]), [[0, 0.5, 0.5], [0.47, 0.5, 0.5]], [5, 1, 1]),
}


def spring_constants(system: System, cutoff: float = 4.5, along: float = 3.0, across: float = 0.4) -> np.ndarray:
    """Return compact force constants of springs along (1/d⁶ decay) and across each pair closer than ``cutoff`` Å."""
    cell = system.supercell
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell.cell), axis=0)).astype(int) + 1
    images = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach]))) @ cell.cell
    result = np.zeros((len(system.primitive_atoms), len(cell.numbers), 3, 3))
    for row, i in enumerate(system.primitive_atoms):
        vectors = cell.positions[None] + images[:, None] - cell.positions[i]  # [images, N, 3]
        lengths = np.linalg.norm(vectors, axis=2)
        for image, j in np.argwhere((lengths < cutoff) & (lengths > 1e-6)):
            unit = vectors[image, j] / lengths[image, j]
            projector = np.outer(unit, unit)
            matrix = (along * projector + across * (np.eye(3) - projector)) * (2.0 / lengths[image, j]) ** 6
            result[row, j] -= matrix
            result[row, i] += matrix
    return result


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Pictures have their own tests and take longer than the campaigns that ask for this."""

    def draw_nothing(directory: RunDirectory) -> None:
        directory.report.mkdir(exist_ok=True)
        (directory.report / "report.html").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activeph.build.draw_report", draw_nothing)
        yield


@pytest.fixture(scope="session")
def crystal() -> Callable[..., System]:
    """Return a function: name of a crystal (and perhaps another supercell) -> system with spring force constants."""
    known: dict[tuple[object, ...], System] = {}

    def build(name: str, supercell: list[int] | None = None, **springs: float) -> System:
        key = (name, tuple(np.ravel(supercell or [])), tuple(sorted(springs.items())))
        if key not in known:
            numbers, cell, fractions, default = CRYSTALS[name]
            unit = Configuration(np.array(numbers), np.array(fractions) @ cell, cell)
            system = make_system(name, unit, supercell or default)
            known[key] = dataclasses.replace(system, force_constants=spring_constants(system, **springs))
        return known[key]

    return build
