"""Which class fulfils which ``kind:`` of the campaign file. The table of contents of everything that can be plugged in.

Third parties register by entry point under the same role names (``activeph.samplers``, ``activeph.models``,
``activeph.selectors``, ``activeph.labelers``, ``activeph.executors``); a class is imported only when it is named.
"""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points

from activeph.errors import InputError
from activeph.section import Section

BUILT_IN: dict[str, dict[str, str]] = {
    "samplers": {
        "phonon": "activeph.sample.phonon:PhononSampler",
        "random": "activeph.sample.random:RandomSampler",
        "replay": "activeph.sample.replay:ReplaySampler",
        "mixture": "activeph.sample.mixture:MixtureSampler",
        "disorder": "activeph.sample.disorder:DisorderSampler",
        "defects": "activeph.sample.defects:DefectsSampler",
        "md": "activeph.sample.md:MdSampler",
        "mode-scan": "activeph.sample.mode_scan:ModeScanSampler",
    },
    "models": {
        "gnn": "activeph.models.gnn:GnnModel",
        "gnn-heads": "activeph.models.gnn_single:HeadsGnnModel",
        "gnn-posterior": "activeph.models.gnn_single:PosteriorGnnModel",
        "mace": "activeph.models.mace:MaceModel",
        "modes": "activeph.models.modes:ModesModel",
        "modes-gnn": "activeph.models.modes_gnn:ModesGnnModel",
        "origin": "activeph.models.origin:OriginModel",
    },
    "selectors": {
        "random": "activeph.select.random:RandomSelector",
        "uncertainty": "activeph.select.uncertainty:UncertaintySelector",
        "lcmd": "activeph.select.lcmd:LcmdSelector",
        "maxdet": "activeph.select.maxdet:MaxDetSelector",
        "maxdist": "activeph.select.maxdist:MaxDistSelector",
        "kmeans++": "activeph.select.kmeanspp:KMeansPlusPlusSelector",
        "typiclust": "activeph.select.typiclust:TypiclustSelector",
        "modal": "activeph.select.modal:ModalSelector",
        "quota": "activeph.select.quota:QuotaSelector",
        "cost-aware": "activeph.select.cost_aware:CostAwareSelector",
        "filtered": "activeph.select.filtered:FilteredSelector",
    },
    "labelers": {
        "xtb": "activeph.label.xtb:XtbLabeler",
        "replay": "activeph.label.replay:ReplayLabeler",
        "ase": "activeph.label.ase_calculator:AseLabeler",
        "gpaw": "activeph.label.gpaw:GpawLabeler",
        "espresso": "activeph.label.espresso:EspressoLabeler",
        "cp2k": "activeph.label.cp2k:Cp2kLabeler",
        "abinit": "activeph.label.abinit:AbinitLabeler",
        "vasp": "activeph.label.vasp:VaspLabeler",
        "mace": "activeph.label.mace:MaceLabeler",
        "files": "activeph.label.files:FilesLabeler",
    },
    "executors": {
        "serial": "activeph.execute.serial:SerialExecutor",
        "processes": "activeph.execute.processes:ProcessExecutor",
        "slurm": "activeph.execute.slurm_executor:SlurmExecutor",
        "parsl": "activeph.execute.parsl_executor:ParslExecutor",
    },
}


def known_kinds(role: str) -> list[str]:
    """Return all names that ``kind:`` may take for a role, sorted."""
    return sorted({*BUILT_IN[role], *(point.name for point in entry_points(group=f"activeph.{role}"))})


def load_kind(role: str, kind: str) -> type[Section]:
    """Return the class behind ``kind`` for a role; the only import of an implementation by name."""
    for point in entry_points(group=f"activeph.{role}"):
        if point.name == kind and kind not in BUILT_IN[role]:
            return point.load()  # type: ignore[no-any-return]
    if kind not in BUILT_IN[role]:
        close = difflib.get_close_matches(kind, known_kinds(role), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(known_kinds(role))}."
        raise InputError(f"kind must name one of the {role} but got {kind!r}; {hint}")
    module, _, name = BUILT_IN[role][kind].partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
