"""Renormalisation with real forces: rock-salt KBr at 300 K, GFN2-xTB."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ase
import numpy as np
import pytest

from activeph.phonons.fit import ForceConstantFit
from activeph.phonons.modes import harmonic_modes, normal_modes
from activeph.phonons.renormalise import Settings, renormalise
from activeph.phonons.thermal import thermal_amplitudes
from activeph.systems import load_system

DATA = Path(__file__).parents[1] / "data" / "kbr"


@pytest.mark.slow
def test_forces_of_fresh_draws_give_the_renormalised_crystal_back() -> None:
    from tblite.ase import TBLite

    from activeph.phonons.draw import HarmonicDraw

    system = load_system("KBr", DATA / "KBr.vasp", [2, 2, 2], DATA / "phonopy_params.yaml")

    def answer(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        forces, energies = [], []
        for row in u:
            cell = system.supercell
            atoms = ase.Atoms(cell.numbers, cell.positions + row, cell=cell.cell, pbc=True)
            atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
            forces.append(atoms.get_forces())
            energies.append(atoms.get_potential_energy())
        return u, np.array(forces), np.array(energies)

    result = renormalise(system, 300.0, answer, Settings(draws=8, max_rounds=10), seed=1)
    assert result.converged
    last = result.rounds[-1]
    harmonic = normal_modes(system).frequencies
    # The soft acoustic modes hardly change; the optical ones stiffen, as at large amplitude in an ionic crystal.
    assert last.frequencies[0] == pytest.approx(harmonic[0], abs=0.1)
    assert last.frequencies.mean() > harmonic.mean() + 0.1
    modes = harmonic_modes(result.effective)
    draw = HarmonicDraw([(modes, thermal_amplitudes(modes, 300.0))])
    fresh, forces, _ = answer(draw(np.random.SFC64(99), np.zeros(24, dtype=np.int64)).astype(np.float64))

    def refitted(rows: np.ndarray) -> np.ndarray:
        u, f = fresh[rows], forces[rows]
        constants = ForceConstantFit(system).solve(u - u.mean(axis=0), f - f.mean(axis=0))
        return normal_modes(dataclasses.replace(system, force_constants=constants)).frequencies

    # a refit without pair terms is much noisier than the answer: its own jackknife says how much
    every = np.arange(len(fresh))
    without = [refitted(np.delete(every, row)) for row in every]
    noise = np.sqrt(np.mean(np.var(without, axis=0)) * (len(every) - 1))
    difference = np.sqrt(np.mean((refitted(every) - last.frequencies) ** 2))
    assert noise < 0.3
    assert difference < 2 * np.hypot(noise, np.sqrt(np.mean(last.frequency_errors**2)))
