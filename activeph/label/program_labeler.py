"""What all labelers share that run an external code: time limit, MPI, the ladder for stubborn cases, provenance."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from activeph.errors import InputError, LabelFailed
from activeph.label.answer import Answer, label_of
from activeph.label.fingerprint import settings_fingerprint
from activeph.label.program import require_program, run_program
from activeph.records import Configuration, Label
from activeph.section import Section

LOCAL_LAUNCHERS = frozenset({"mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun"})
OF_THE_JOB = re.compile(
    r"SLURM_(?!CONF$|TMPDIR$)|PBS_|LSB_|LSF_|PE_HOSTFILE|COBALT_|PMI_|PMIX_|PALS_|OMPI_COMM_|HYDI_|MPI_LOCAL"
)
"""Variables of a scheduler's job and of the launcher of our workers. Left to them, mpirun would count the one task that
the job has for it, or spread a label over all nodes of the block from the first core on, as every other label does; and
a code on one core would take itself for one process of many."""
UNBOUND = {
    "OMPI_MCA_hwloc_base_binding_policy": "none",  # Open MPI 4
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_hwloc_default_binding_policy": "none",  # Open MPI 5
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "I_MPI_PIN": "off",  # Intel MPI
    "I_MPI_HYDRA_BOOTSTRAP": "fork",
    "HYDRA_BOOTSTRAP": "fork",  # MPICH
}
"""Several labels on one node must not be bound to the same cores: the worker's own share of them holds."""


class ProgramLabeler(Section):
    """An electronic-structure code that is started for every label. Subclasses say what it reads and what it wrote.

    The ladder: a calculation that does not converge is begun again with the settings of the first rung, then of the
    second, and so on. Rungs may change how self-consistency is reached, not what is calculated; the rung that
    converged is recorded with the label, and the whole ladder is part of the fingerprint.
    """

    HOW_TO_RUN: ClassVar[frozenset[str]] = frozenset({"command", "cores", "launcher", "timeout"})
    LADDER_KEYS: ClassVar[frozenset[str]] = frozenset({"max_iterations"})
    LOG_NAME: ClassVar[str] = "output.txt"

    kpts: tuple[int, int, int] = Field((1, 1, 1), strict=False)
    """Divisions of the reciprocal lattice vectors; the mesh contains Gamma. No symmetry is used."""
    smearing: float = Field(0.02, ge=0.0)
    """Width kT of the Fermi occupations (eV)."""
    spin: bool = False
    """Two spin channels."""
    max_iterations: int = Field(100, ge=1)
    """Iterations after which a calculation counts as unconverged."""
    ladder: tuple[dict[str, Any], ...] = Field((), strict=False)
    """Settings to try in turn where a calculation did not converge."""
    cores: int = Field(1, ge=1)
    """MPI processes of one label, all on one node and of one thread each."""
    launcher: str = "mpirun -np {cores}"
    """What starts the code on more than one core; ``{cores}`` and ``{node}`` (this node's name) are replaced. With
    ``mpirun`` or ``mpiexec``, which are kept from the job's own list of nodes and cores, any number of labels share a
    job; where a cluster wants ``srun``: ``srun --overlap -w {node} -n {cores} -c 1 --mpi=pmix``."""
    timeout: float | None = Field(None, gt=0.0)
    """Seconds after which a calculation is stopped and counts as failed; each rung of the ladder has as many."""

    @field_validator("kpts")
    @classmethod
    def _positive(cls, kpts: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(kpts) < 1:
            raise ValueError(f"every division must be at least 1 but got {list(kpts)}")
        return kpts

    @model_validator(mode="after")
    def _check_ladder(self) -> Self:
        for rung in self.ladder:
            unknown = sorted(set(rung) - self.LADDER_KEYS)
            if unknown:
                raise ValueError(
                    f"a rung may change {', '.join(sorted(self.LADDER_KEYS))} but got {', '.join(unknown)}; "
                    "what changes the answer must be the same for all labels"
                )
            self._rung(rung)
        return self

    @property
    def fingerprint(self) -> str:
        """12 hex digits of all settings but those of :attr:`HOW_TO_RUN`, the code's version and its data files."""
        return settings_fingerprint(self, exclude=self.HOW_TO_RUN, **self._facts())

    def label(self, configuration: Configuration, workdir: Path) -> Label:
        """Return the label; input and output stay in ``workdir``. Raises LabelFailed where there is no answer."""
        self.check(configuration)
        start = time.perf_counter()
        for number, rung in enumerate([{}, *self.ladder]):
            labeler = self._rung(rung)
            try:
                answer = labeler._run(configuration, workdir)
            except LabelFailed as error:
                if error.kind != "unconverged" or number == len(self.ladder):
                    raise
                (workdir / self.LOG_NAME).rename(workdir / f"rung-{number}-{self.LOG_NAME}")
                continue
            facts = {"rung": number, "wall_time": time.perf_counter() - start}
            return label_of(configuration, answer, {**self._identity(), **facts})
        raise AssertionError("the last rung either returns or raises")

    def _identity(self) -> dict[str, Any]:
        settings = self.model_dump(mode="json", exclude=set(self.HOW_TO_RUN))
        return {"code": self._code(), "fingerprint": self.fingerprint, "settings": settings}

    @abstractmethod
    def check(self, configuration: Configuration) -> None:
        """Raise InputError where the code cannot treat the configuration."""

    @abstractmethod
    def _code(self) -> str:
        """Return the code's name."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Return what else can change the answer: version, hashes of data files."""

    @abstractmethod
    def _run(self, configuration: Configuration, workdir: Path) -> Answer:
        """Make one calculation and return its answer; raise LabelFailed where there is none."""

    def _rung(self, rung: dict[str, Any]) -> Self:
        """Return this labeler with other settings and no ladder."""
        try:
            return type(self).model_validate({**self.model_dump(), "ladder": (), **rung})
        except ValidationError as error:
            raise ValueError(f"rung {json.dumps(rung)}: {error.errors()[0]['msg']}") from error

    def _start(self, command: Sequence[str], workdir: Path, log_name: str | None = None, **options: Any) -> int:
        """Run the code, through the launcher on more than one core, one thread each; return its exit status."""
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]
        prefix = shlex.split(self.launcher.format(cores=self.cores, node=node)) if self.cores > 1 else []
        is_local = not prefix or Path(prefix[0]).name in LOCAL_LAUNCHERS
        environment = {"OMP_NUM_THREADS": "1", **(UNBOUND if is_local else {}), **options.pop("environment", {})}
        return run_program(
            [*prefix, *command],
            workdir,
            log_name or self.LOG_NAME,
            timeout=self.timeout,
            environment=environment,
            without=OF_THE_JOB if is_local else None,
            **options,
        )

    def _require_launcher(self) -> None:
        if self.cores > 1:
            require_program(shlex.split(self.launcher)[0], "label.launcher", "an MPI library")


def require_python_package(name: str, kind: str, extra: str) -> None:
    """Raise InputError where a Python package that a labeler needs is missing."""
    from importlib.util import find_spec

    if name not in sys.modules and find_spec(name) is None:
        raise InputError(f"label.kind {kind} must have the package {name} but got none; install activeph[{extra}].")
