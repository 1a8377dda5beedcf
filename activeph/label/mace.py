"""A MACE model as teacher. I. Batatia et al., NeurIPS 2022, arXiv:2206.07697."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import socket
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from activeph.errors import InputError
from activeph.label.fingerprint import file_hash, settings_fingerprint
from activeph.records import Configuration, Label
from activeph.section import InputPath, Section


class MaceLabeler(Section):
    """Energies, forces and stresses of a trained model; it knows no bands, so gap and edges are NaN."""

    kind: Literal["mace"] = "mace"
    model: InputPath
    """File of the model."""
    device: str = "cpu"
    """Where it runs: ``cpu``, ``cuda``, ``cuda:1``."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision; harmonic force constants need float64."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the model's file, the precision and the version of MACE."""
        return settings_fingerprint(
            self, exclude={"model", "device"}, model=self._hash(), code_version=importlib.metadata.version("mace-torch")
        )

    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the model cannot be loaded or does not know an element."""
        from ase.data import chemical_symbols

        known = set(_calculator(self._hash(), self.model, self.device, self.dtype).models[0].atomic_numbers.tolist())
        unknown = sorted({int(number) for number in configuration.numbers} - known)
        if unknown:
            names = ", ".join(chemical_symbols[number] for number in unknown)
            raise InputError(f"label.model must know every element but got none of {names}; use another model.")

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the label. The model stays loaded between calls."""
        from ase import Atoms

        self.check(configuration)
        start = time.perf_counter()
        atoms = Atoms(configuration.numbers, configuration.positions, cell=configuration.cell, pbc=True)
        atoms.calc = _calculator(self._hash(), self.model, self.device, self.dtype)
        return Label(
            configuration=configuration,
            energy=float(atoms.get_potential_energy()),
            forces=np.array(atoms.get_forces(), dtype=np.float64),
            stress=np.array(atoms.get_stress(), dtype=np.float64),
            band_gap=math.nan,
            direct_band_gap=math.nan,
            valence_band_maximum=math.nan,
            conduction_band_minimum=math.nan,
            eigenvalues=np.zeros((0, 0, 0)),
            occupations=np.zeros((0, 0, 0)),
            provenance={
                "code": "mace",
                "code_version": importlib.metadata.version("mace-torch"),
                "fingerprint": self.fingerprint,
                "settings": {**self.model_dump(mode="json"), "model": self.model.name, "model_sha256": self._hash()},
                "scf_iterations": None,
                "wall_time": time.perf_counter() - start,
                "host": socket.gethostname(),
            },
        )

    def _hash(self) -> str:
        try:
            return file_hash(self.model)
        except OSError as error:
            raise InputError(
                f"label.model must be the file of a MACE model but got {str(self.model)!r} ({error.strerror}); "
                "correct the path."
            ) from error


@functools.lru_cache(maxsize=2)
def _calculator(sha256: str, path: Path, device: str, dtype: str) -> Any:
    from mace.calculators import MACECalculator

    try:
        return MACECalculator(model_paths=str(path), device=device, default_dtype=dtype)
    except Exception as error:
        raise InputError(
            f"label.model must be a MACE model but got {path} ({type(error).__name__}: {error}); give another file."
        ) from error
