"""What is taken over from the file of a foundation model."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from activeph.errors import InputError
from activeph.models.mace_network import HEAD, REPLAY_HEAD, build_network, default_dtype, import_mace, quiet
from activeph.records import FloatArray

NOT_WORDS = ("num_elements", "atomic_numbers", "atomic_energies", "cueq_config")


def read_foundation(path: Path, head: str | None, numbers: Iterable[int]) -> Any:
    """Return the model of a file with one head, on the CPU.

    A model file is a pickle and may run code when it is read: use files from sources you trust. Raises InputError
    where it is no ScaleShiftMACE, has several heads and none is chosen, or does not know an element.
    """
    from ase.data import chemical_symbols

    model = _read(path, path.stat().st_mtime_ns, head)
    unknown = sorted({int(number) for number in numbers} - set(model.atomic_numbers.tolist()))
    if unknown:
        names = ", ".join(chemical_symbols[number] for number in unknown)
        raise InputError(f"model.foundation must know every element but got none of {names}; use another model.")
    return model


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int, head: str | None) -> Any:
    import_mace()
    from mace.tools.scripts_utils import remove_pt_head

    try:
        with quiet():
            model: Any = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InputError(
            f"model.foundation must be a MACE model but got {path} ({type(error).__name__}: {error}); give another."
        ) from error
    if type(model).__name__ != "ScaleShiftMACE":
        raise InputError(
            f"model.foundation must be a ScaleShiftMACE, as published ones are, but got a {type(model).__name__} in "
            f"{path}; give another file."
        )
    heads = list(getattr(model, "heads", [HEAD]))
    chosen = head or (heads[0] if len(heads) == 1 else HEAD)
    if chosen not in heads:
        raise InputError(
            f"model.foundation_head must be one of {', '.join(map(str, heads))} but got {chosen}; choose one of them."
        )
    if len(heads) > 1:
        with default_dtype(next(model.parameters()).dtype), quiet():
            model = remove_pt_head(model, chosen)
    return model.requires_grad_(False)


def foundation_architecture(model: Any, replayed: bool) -> dict[str, Any]:
    """Return the words for :func:`build_network`, with a second head where structures are replayed."""
    from mace.modules import gate_dict
    from mace.tools.scripts_utils import extract_config_mace_model

    words = {name: value for name, value in extract_config_mace_model(model).items() if name not in NOT_WORDS}
    heads = [REPLAY_HEAD, HEAD] if replayed else [HEAD]
    for name in ("interaction_cls", "interaction_cls_first", "readout_cls"):
        words[name] = words[name].__name__
    for name in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        words[name] = str(words[name]) if words[name] else None
    for name in ("atomic_inter_scale", "atomic_inter_shift"):
        words[name] = [float(np.ravel(words[name])[0])] * len(heads)
    gates = [word for word, function in gate_dict.items() if function is words["gate"]]
    if not gates or words.get("embedding_specs"):
        raise InputError(
            f"model.foundation must have one of the activations {', '.join(gate_dict)} and no embeddings of charge or "
            f"spin but got {words['gate']}, {words.get('embedding_specs')}; give another file."
        )
    words["avg_num_neighbors"] = float(words["avg_num_neighbors"])
    return words | {"gate": gates[0], "heads": heads, "use_embedding_readout": False, "embedding_specs": None}


def start_from(
    model: Any, architecture: dict[str, Any], elements: Sequence[int], dtype: torch.dtype
) -> torch.nn.Module:
    """Return a network for fewer elements that says what the foundation model says, with every head."""
    from mace.tools import AtomicNumberTable
    from mace.tools.finetuning_utils import load_foundations_elements

    network = build_network(architecture, elements, dtype)
    with default_dtype(dtype), quiet():
        source = copy.deepcopy(model).to(dtype)
        lmax = max(irrep.ir.l for irrep in source.products[0].linear.irreps_out)
        load_foundations_elements(
            network, source, AtomicNumberTable(list(elements)), load_readout=True, max_L=lmax, default_dtype=dtype
        )
    return network


def foundation_atoms(model: Any, elements: Sequence[int]) -> FloatArray:
    """Return the foundation model's energies of atoms [Z] in eV."""
    known = model.atomic_numbers.tolist()
    energies = np.atleast_2d(model.atomic_energies_fn.atomic_energies.double().numpy())[0]
    return np.array([energies[known.index(int(number))] for number in elements])
