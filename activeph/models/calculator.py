"""Trained networks as a calculator of ASE: labels, molecular dynamics, relaxations.

The networks of kinds gnn, gnn-heads, gnn-posterior and modes-gnn learn forces as derivatives of their energy
(:mod:`activeph.models.forces`), so that energy, forces and stress are those of one potential. It knows no bands.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from activeph.errors import InputError
from activeph.graphs.batch import block_graph
from activeph.graphs.neighbours import NeighbourFinder
from activeph.models.base import Device, unreadable
from activeph.models.device import pick_device
from activeph.models.forces import ENERGY, differentiable, on_atoms
from activeph.models.gnn import GnnSettings
from activeph.models.low_fidelity import WithLowFidelity
from activeph.models.network import load_member
from activeph.models.network_predictor import Member
from activeph.models.network_state import read_state
from activeph.models.stress import WithStress, scalar_names, with_stress
from activeph.records import Block, FloatArray
from activeph.role import Role
from activeph.rundir import read_resolved

WHERE = "RUN/arms/ARM/repeat-0/round-NNN/member-0.pt"


@runtime_checkable
class WithNetworks(Protocol):
    """A model whose members hold a network that has learned energies and forces."""

    def trained_network(self, state: bytes) -> tuple[GnnSettings, bytes]:
        """Return the settings and the state of the network in a member's state."""
        ...


class NetworkCalculator(Calculator):  # type: ignore[misc]
    """Mean energy (eV) of trained members, minus its derivative (eV/Å), and its derivative by strain (eV/Å³).

    ``members`` are files ``member-K.pt`` of one round's folder, ``device`` is where they are asked: always in double
    precision, which force constants need. Crystals may have any supercell; they must be periodic in three directions.

    Raises:
        InputError: files that are no members of one round, of a model without networks, or that learned no forces.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, members: str | Sequence[str], device: Device = "cpu") -> None:
        super().__init__()
        written = [members] if isinstance(members, str | Path) else list(members)
        files = tuple((path := Path(one).absolute(), _changed(path)) for one in written)
        self._settings, self._column, self._members = _load(files, device)
        self._finder = NeighbourFinder({}, self._settings.cutoff)

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Put energy, forces and stress of the atoms into ``results``."""
        super().calculate(atoms, properties, system_changes)
        energy, forces, stress = self._evaluate(_block(self.atoms, self._members[0].elements.tolist()))
        self.results = {"energy": energy, "free_energy": energy, "forces": forces, "stress": stress}

    def _evaluate(self, block: Block) -> tuple[float, FloatArray, FloatArray]:
        elements = self._members[0].elements
        graph = block_graph(block, self._finder, np.float64).to(elements.device)
        graph = differentiable(self._settings.prepare(graph, elements))
        n_atoms = len(graph.species)
        energies, gradients = [], []
        for member in self._members:
            scaled = member.network(graph)[0][0]
            scale, offset = member.scaling.scale[self._column], member.scaling.offset(block)[0, self._column]
            energies.append(n_atoms * (scaled[self._column].item() * scale + offset))
            gradients.append(member.network.gradient(scaled[self._column] * (n_atoms * float(scale)), graph).detach())
        gradient = torch.stack(gradients).mean(dim=0)
        virial = (graph.vectors.detach().T @ gradient).cpu().numpy() / abs(np.linalg.det(block.cells[0]))
        forces = on_atoms(gradient, graph).cpu().numpy()
        return float(np.mean(energies)), forces, full_3x3_to_voigt_6_stress((virial + virial.T) / 2)


def _block(atoms: Any, known: Sequence[int]) -> Block:
    """Return the atoms as a block of one. Raises InputError where the networks cannot say anything of them."""
    from ase.data import chemical_symbols

    if not np.all(atoms.pbc) or abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise InputError(
            f"atoms must be a crystal, periodic in three directions, but got pbc {atoms.pbc.tolist()} and a cell of "
            f"{abs(np.linalg.det(atoms.cell.array)):.3g} Å³; set both."
        )
    unknown = [chemical_symbols[number] for number in np.unique(atoms.numbers) if number not in known]
    if unknown:
        raise InputError(
            f"atoms must be of elements the members know ({', '.join(chemical_symbols[n] for n in known)}) but got "
            f"{', '.join(unknown)}; use members of another campaign."
        )
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    return Block("", numbers[None], atoms.positions[None], atoms.cell.array[None], np.full(1, np.nan))


def _changed(path: Path) -> int:
    """Return when a file was written. Raises InputError where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise InputError(
            f"members must be files such as {WHERE} but got {str(path)!r} ({error.strerror}); correct the path."
        ) from None


@functools.lru_cache(maxsize=4)
def _load(files: Sequence[tuple[Path, int]], device: Device) -> tuple[GnnSettings, int, Sequence[Member]]:
    """Return the settings of the members' networks, the column of their energies, and the members."""
    folders = {path.parent for path, _ in files}
    if len(folders) != 1:
        raise InputError(f"members must be files of one round, such as {WHERE}, but got {len(folders)} folders.")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda but got {device!r}; choose one of them.")
    campaign = _campaign(files[0][0])
    resolved = read_resolved(campaign)
    model: Any = Role("models").validate(resolved["model"])
    names = tuple(resolved["targets"])
    whole = with_stress(model, names)
    low = WithLowFidelity(model) if resolved.get("low_fidelity") is not None else None
    if not isinstance(model, WithNetworks):
        raise InputError(
            f"members must be of a model of kind gnn, gnn-heads, gnn-posterior or modes-gnn but got {model.kind} "
            f"({campaign}); of mace, export the models and use label: {{kind: mace}}."
        )
    stress = whole if isinstance(whole, WithStress) else None
    names = scalar_names(names) if stress else names
    if ENERGY not in names:
        raise InputError(
            f"members must have {ENERGY} among their targets but got {', '.join(names)} ({campaign}); train with it."
        )
    read = [_read(path, model, stress, low) for path, _ in files]
    return read[0][0], names.index(ENERGY), [_member(*one, pick_device(device)) for one in read]


def _read(
    path: Path, model: WithNetworks, stress: WithStress | None, low: WithLowFidelity | None
) -> tuple[GnnSettings, Mapping[str, Any]]:
    """Return the settings and the record of the network in a member's file."""
    state = path.read_bytes()
    try:
        state = stress.inner(state) if stress else state
        settings, network = model.trained_network(low.inner(state) if low else state)
        record = read_state(network)
    except InputError:
        raise
    except Exception as error:  # zipfile, numpy and pickle each have their own
        raise InputError(unreadable(f"{type(error).__name__} in {path}")) from None
    if not any(point[3] > 0 for point in record["curve"][1:]):
        raise InputError(
            f"members must have learned forces but got {path}, which has not; train on labels with forces."
        )
    return settings, record


def _member(settings: GnnSettings, record: Mapping[str, Any], device: torch.device) -> Member:
    with torch.random.fork_rng(devices=[]):  # a network is drawn before its weights are read
        member = load_member(settings, record, device)
    member.network.double().requires_grad_(False)
    return member


def _campaign(member: Path) -> Path:
    """Return the resolved campaign of the run that a member's file lies in."""
    for folder in member.parents:
        if (folder / "campaign.yaml").is_file():
            return folder / "campaign.yaml"
    raise InputError(
        f"members must lie in their run, such as {WHERE}, but got {member}; copy the run's campaign.yaml beside it."
    )
