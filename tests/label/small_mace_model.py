"""A small untrained MACE model of potassium and bromine."""

import importlib
from pathlib import Path

import numpy as np


def write_small_model(path: Path) -> Path:
    """Write the model to a file; return the file."""
    import torch
    from mace import modules

    o3 = importlib.import_module("e3nn.o3")  # loads only after mace
    torch.manual_seed(0)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    small = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=1,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=1,
        num_elements=2,
        hidden_irreps=o3.Irreps("4x0e"),
        MLP_irreps=o3.Irreps("4x0e"),
        atomic_energies=np.array([-1.0, -2.0]),
        avg_num_neighbors=6.0,
        atomic_numbers=[19, 35],
        correlation=1,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.set_default_dtype(previous)
    torch.save(small, path)
    return path
