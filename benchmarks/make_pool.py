"""Thermal draws of a crystal, labelled by GFN2-xTB: data to develop models with and to measure them on.

    python benchmarks/make_pool.py KBr.vasp --supercell 2 2 2 --n 1500 --output kbr.extxyz.gz

Drawn by activeph's sampler and labelled by its labeler. Without --force-constants they are made by finite
displacements with the same labeler and written beside the output. Extended XYZ with energy, forces, stress, ``gap``,
``vbm`` and the temperature ``T``: what ``benchmarks/models.py`` reads. Deterministic in --seed, and a smaller --n is a
prefix of a larger one; started again, it goes on after the last structure in OUTPUT.part. Run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from activeph.errors import LabelFailed
from activeph.label.xtb import XtbLabeler
from activeph.records import Configuration, System
from activeph.sample.phonon import PhononSampler
from activeph.systems import finite_displacements, load_system, with_force_constants, write_phonopy


def main() -> None:
    options = parse()
    labeler = XtbLabeler(electronic_temperature=300.0)
    system = crystal(options, labeler)
    sampler = PhononSampler(temperatures=options.temperatures, statistics=options.statistics)
    pool = sampler.pool(system, options.n, options.seed)
    part = options.output.with_name(options.output.name + ".part")
    done = resume(part, len(system.masses) + 2)
    failed = 0
    with part.open("a", encoding="utf-8") as stream:
        for row in range(done, pool.size):
            block = pool.block(row, row + 1)
            try:
                atoms = labelled(block.configuration(0), labeler)
            except LabelFailed as failure:
                failed += 1
                print(f"draw {row}: {failure}", file=sys.stderr)
                continue
            atoms.info |= {"T": float(block.temperatures[0]), "draw": row}
            ase.io.write(stream, atoms, format="extxyz")
            stream.flush()
    whole = part.read_bytes()
    options.output.write_bytes(gzip.compress(whole, mtime=0) if options.output.suffix == ".gz" else whole)
    part.unlink()
    print(f"{options.output}: {pool.size - failed} of {pool.size} draws labelled")


def resume(part: Path, lines_per_frame: int) -> int:
    """Return how many draws are done; a frame that was torn by a kill is cut off."""
    lines = part.read_text(encoding="utf-8").splitlines(keepends=True) if part.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    whole = whole[: len(whole) // lines_per_frame * lines_per_frame]
    if not whole:
        return 0
    part.write_text("".join(whole), encoding="utf-8")
    return int(ase.io.read(part, index=-1, format="extxyz").info["draw"]) + 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path)
    parser.add_argument("--supercell", type=int, nargs=3, default=(2, 2, 2))
    parser.add_argument("--force-constants", type=Path)
    parser.add_argument("--temperatures", type=float, nargs="+", default=(150.0, 300.0, 450.0, 600.0))
    parser.add_argument("--statistics", choices=("quantum", "classical"), default="quantum")
    parser.add_argument("--n", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def crystal(options: argparse.Namespace, labeler: XtbLabeler) -> System:
    """Return the system; force constants that are not given are computed once and written beside the output."""
    path = options.force_constants or options.output.with_name("phonopy_params.yaml")
    if not path.exists():
        bare = load_system("crystal", options.structure, options.supercell)
        forces = [labelled(moved, labeler).get_forces() for moved in finite_displacements(bare)]
        write_phonopy(with_force_constants(bare, np.array(forces)), path)
    return load_system("crystal", options.structure, options.supercell, path)


def labelled(configuration: Configuration, labeler: XtbLabeler) -> Atoms:
    """Return a configuration with what the labeler says of it."""
    with tempfile.TemporaryDirectory() as workdir:
        label = labeler.label(configuration, Path(workdir))
    atoms = Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces, stress=label.stress)
    atoms.info |= {"gap": label.band_gap, "vbm": label.valence_band_maximum}
    return atoms


if __name__ == "__main__":
    main()
