"""MACE networks as data: an architecture in plain words, weights, and the energies of the atoms in double precision.

A member's state holds no pickled code. ``energy of the atoms`` are kept apart from the weights because total energies
of thousands of eV have no room for a meV in single precision.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from activeph.errors import InputError
from activeph.models.base import unreadable
from activeph.models.network_state import read_state, write_state
from activeph.records import FloatArray

DTYPES = {"float32": torch.float32, "float64": torch.float64}
HEAD = "Default"  # the head that learns the labels; MACE's calculator takes the head of this name by itself
REPLAY_HEAD = "pt_head"  # mace-torch's name for the head that remembers the foundation model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep from the user what mace, e3nn and TorchScript say about themselves when they are imported and built."""
    with contextlib.redirect_stdout(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_mace() -> None:
    """Import mace, which must come before e3nn (e3nn 0.4.4 does not load on recent torch by itself)."""
    with quiet():
        import mace.modules  # noqa: F401


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make tensors of a precision for a while: MACE and e3nn read torch's global default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_network(architecture: Mapping[str, Any], elements: Sequence[int], dtype: torch.dtype) -> torch.nn.Module:
    """Return an untrained network for sorted atomic numbers; energies of atoms are left at zero."""
    import_mace()
    o3 = importlib.import_module("e3nn.o3")
    from mace.modules import ScaleShiftMACE, gate_dict, interaction_classes, readout_classes

    words = dict(architecture)
    for name in ("interaction_cls", "interaction_cls_first"):
        words[name] = interaction_classes[words[name]]
    for name in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        words[name] = o3.Irreps(words[name]) if words.get(name) else None
    if "readout_cls" in words:
        words["readout_cls"] = readout_classes[words["readout_cls"]]
    n_heads = len(words["heads"])
    words = {
        "avg_num_neighbors": 1.0,
        "atomic_inter_scale": [1.0] * n_heads,
        "atomic_inter_shift": [0.0] * n_heads,
    } | words
    with default_dtype(dtype), quiet():
        network: torch.nn.Module = ScaleShiftMACE(
            **words | {"gate": gate_dict[words["gate"]]},
            num_elements=len(elements),
            atomic_numbers=[int(number) for number in elements],
            atomic_energies=np.zeros((n_heads, len(elements))),
        )
    return network


def invariant_columns(architecture: Mapping[str, Any]) -> list[int]:
    """Return which columns of MACE's node features [A, F] are scalars: those of every layer's first irreps."""
    import_mace()
    o3 = importlib.import_module("e3nn.o3")
    columns: list[int] = []
    start = 0
    n_layers = int(architecture["num_interactions"])
    for layer in range(n_layers):
        irreps = o3.Irreps(architecture["hidden_irreps"])
        if layer == n_layers - 1:
            irreps = o3.Irreps(str(irreps[0]))  # MACE keeps only scalars of the last layer
        for irrep, place in zip(irreps, irreps.slices(), strict=True):
            if irrep.ir.l == 0 and irrep.ir.p == 1:
                columns += range(start + place.start, start + place.stop)
        start += irreps.dim
    return columns


def pack(
    network: torch.nn.Module, architecture: Mapping[str, Any], atoms: FloatArray, more: Mapping[str, Any]
) -> bytes:
    """Return a member's state; ``atoms`` [heads, Z] are the energies of the atoms in eV."""
    record = {
        "architecture": json.dumps(dict(architecture)),
        "elements": [int(number) for number in network.atomic_numbers],  # type: ignore[union-attr]
        "network": {name: value.detach() for name, value in network.state_dict().items()},
        "atoms": torch.from_numpy(atoms),
    }
    return write_state(record | dict(more))


def unpack(state: bytes) -> dict[str, Any]:
    """Return the record in a member's state. Raises InputError where it is another model's."""
    record = read_state(state)
    if "architecture" not in record:
        raise InputError(unreadable("that of another kind of model"))
    return record | {"architecture": json.loads(record["architecture"])}


def restore_network(record: Mapping[str, Any], dtype: torch.dtype) -> torch.nn.Module:
    """Return the network of a state, without gradients of its weights, energies of atoms included."""
    with torch.random.fork_rng(devices=[]):  # building draws weights, which are replaced
        network = build_network(record["architecture"], record["elements"], dtype)
    network.load_state_dict(record["network"])
    set_atoms(network, record["atoms"].numpy())
    network.eval()
    return network.requires_grad_(False)


def set_atoms(network: Any, atoms: FloatArray) -> None:
    """Set the energies of atoms [heads, Z] in eV of a MACE network."""
    energies = network.atomic_energies_fn.atomic_energies
    energies.data = torch.as_tensor(atoms, dtype=energies.dtype, device=energies.device)


def write_model(state: bytes, path: Path) -> Path:
    """Write a member as a model file of MACE, in double precision so that total energies keep their digits."""
    network = restore_network(unpack(state), torch.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network, path)
    return path
