"""What goes on inside a block: MPI, the end of its walltime, several blocks at once, GPUs."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from activeph.execute.environment import gpu_environment
from activeph.execute.parsl_executor import Job, ParslExecutor, clock, run_label, waiting_for
from activeph.execute.processes import ProcessExecutor
from activeph.execute.slurm_executor import SlurmExecutor
from activeph.label.espresso import EspressoLabeler
from activeph.labelling import obtain
from activeph.records import Configuration, Done, Label
from activeph.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parent))

from executor_tasks import note_job, variables  # noqa: E402


def silicon(shift: float) -> Configuration:
    crystal = bulk("Si", "diamond", 5.43)
    crystal.positions[0] += shift
    return Configuration(crystal.numbers.astype(np.int64), crystal.positions, crystal.cell.array)


@pytest.mark.integration
def test_a_label_has_several_processes_inside_a_block(
    slurm: SlurmExecutor, jobs_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pw.x with the default launcher, for which the job of one task looks as if it had one slot."""
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    labeler = EspressoLabeler(pseudopotentials={"Si": "Si.pbe-nl-rrkjus_psl.1.0.0.UPF"}, ecutwfc=20.0, cores=2)
    srun = labeler.model_copy(update={"launcher": "srun --overlap -w {node} -n {cores} -c 1 --mpi=pmix"})
    ledger = Ledger(tmp_path / "labels")
    with slurm.model_copy(update={"cores_per_label": 2}).start(jobs_directory) as workers:
        for shift, way in ((0.0, labeler), (0.05, srun)):
            ((key, label),) = obtain(way, [silicon(shift)], ledger, workers).items()
            assert isinstance(label, Label), label
            output = (ledger.directory(key) / labeler.LOG_NAME).read_text()
            assert "running on     2 processors" in output
            assert "Threads/MPI process:                  1" in output or "Serial multi-threaded" not in output


@pytest.mark.integration
def test_no_task_begins_at_the_end_of_a_job_and_the_next_job_takes_over(
    slurm: SlurmExecutor, jobs_directory: Path, tmp_path: Path
) -> None:
    """Two blocks of one core at a time. Walltime and reserve leave each ten seconds in which it may begin tasks."""
    executor = slurm.model_copy(
        update={"cores_per_node": 1, "blocks": 2, "walltime": "00:02:10", "reserve": "00:02:00"}
    )
    with executor.start(jobs_directory) as workers:
        outcomes = list(workers.map(note_job, [(str(tmp_path / f"task-{i}"), 3.0) for i in range(10)]))
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    begun: dict[str, list[float]] = {}
    for note in tmp_path.glob("task-*"):
        number, start = note.read_text().split()
        begun.setdefault(number, []).append(float(start))
    assert len(list(tmp_path.glob("task-*"))) == 10
    assert len(begun) >= 3  # no job could begin more than four
    for starts in begun.values():
        assert max(starts) - min(starts) < 11.0


@pytest.mark.integration
def test_workers_of_a_block_see_one_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GPUs at hand: what counts is what the workers are told."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")  # as a scheduler does for a job
    executor = ParslExecutor(provider="parsl.providers:LocalProvider", cores_per_node=4, gpus_per_node=2)
    with executor.start(tmp_path) as workers:
        outcomes = list(workers.map(variables, [["CUDA_VISIBLE_DEVICES", "PARSL_WORKER_RANK"]] * 40))
    seen = {outcome.value["PARSL_WORKER_RANK"]: outcome.value["CUDA_VISIBLE_DEVICES"] for outcome in outcomes}  # type: ignore[union-attr]
    assert seen
    assert all(gpu == str(2 + int(rank) % 2) for rank, gpu in seen.items())


def test_processes_see_one_gpu_each_and_a_dead_ones_gpu_goes_to_its_successor() -> None:
    with ProcessExecutor(workers=2, gpus=2).start() as workers:
        for _ in range(2):
            tasks = [["CUDA_VISIBLE_DEVICES"]] * 2
            found = [outcome.value for outcome in workers.map(variables, tasks) if isinstance(outcome, Done)]
            assert sorted(value["CUDA_VISIBLE_DEVICES"] for value in found) == ["0", "1"]
            list(workers.map(os._exit, [1]))


@pytest.mark.parametrize(
    ("rank", "gpus", "given", "wanted"),
    [
        (0, 0, "", None),
        (1, 2, "", "1"),
        (3, 2, "", "1"),
        (1, 2, "4,7", "7"),
        (2, 4, "4,7", "4"),
        (0, 1, "GPU-ab", "GPU-ab"),
    ],
)
def test_gpus_are_shared_out_in_turn(rank: int, gpus: int, given: str, wanted: str | None) -> None:
    base = {"CUDA_VISIBLE_DEVICES": given} if given else {}
    assert gpu_environment(rank, gpus, base).get("CUDA_VISIBLE_DEVICES") == wanted


OTHER_SCHEDULERS: dict[str, dict[str, Any]] = {
    "PBSProProvider": {"queue": "long", "account": "physics", "cpus_per_node": 32, "select_options": "ngpus=4"},
    "TorqueProvider": {"queue": "long", "account": "physics"},
    "LSFProvider": {
        "queue": "long",
        "project": "physics",
        "cores_per_node": 32,
        "cores_per_block": 64,
        "request_by_nodes": False,
    },
    "GridEngineProvider": {"queue": "long"},
    "CondorProvider": {"project": "physics", "cores_per_slot": 8},
    "LocalProvider": {},
}


@pytest.mark.parametrize("name", OTHER_SCHEDULERS)
def test_other_schedulers_by_configuration(name: str) -> None:
    """The provider that Parsl would use is made, with what all executors share and with its own options."""
    pytest.importorskip("parsl")
    options = OTHER_SCHEDULERS[name]
    executor = ParslExecutor(
        provider=f"parsl.providers:{name}",
        options=options,
        nodes=2,
        blocks=3,
        walltime="1-02:00:10",
        worker_init="module load activeph",
        launcher="parsl.launchers:MpiExecLauncher",
        launcher_options={"bind_cmd": "--cpu-bind"},
    )
    executor.check()
    provider = executor._provider()
    assert type(provider).__name__ == name
    assert (provider.nodes_per_block, provider.max_blocks, provider.init_blocks) == (2, 3, 0)
    assert "module load activeph" in provider.worker_init
    assert type(provider.launcher).__name__ == "MpiExecLauncher"
    assert getattr(provider, "walltime", "26:01:00") == "26:01:00"
    for key in {"queue", "account", "cpus_per_node", "cores_per_node"} & set(options):
        assert getattr(provider, key) == options[key]


@pytest.mark.integration
def test_kubernetes_by_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made from a file that names a cluster; nothing is asked of it."""
    cluster = {"name": "c", "cluster": {"server": "https://localhost:6443"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    content = {
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    options = {"image": "activeph:1", "max_cpu": 16, "persistent_volumes": [["runs", "/runs"]]}
    executor = ParslExecutor.model_validate(
        {"provider": "parsl.providers:KubernetesProvider", "options": options, "blocks": 5, "worker_init": "cd /runs"}
    )
    provider = executor._provider()
    assert (provider.image, provider.max_blocks, provider.init_blocks) == ("activeph:1", 5, 0)
    assert provider.persistent_volumes == [("runs", "/runs")]
    assert "cd /runs" in provider.worker_init


def test_the_jobs_of_a_run_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = (f"parsl.{run_label(tmp_path / name)}.block-0.17" for name in ("jobs", "others"))
    answer = f"7|PENDING|Resources|{own}\n8|RUNNING|None|{own}\n9|RUNNING|None|{other}\n10|RUNNING|None|a|b\n"
    monkeypatch.setattr("activeph.execute.slurm_executor.ask_slurm", lambda command: answer)
    found = SlurmExecutor().jobs(tmp_path / "jobs")
    assert found == [Job("7", "PENDING", "Resources"), Job("8", "RUNNING", "None")]
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    assert SlurmExecutor().jobs(tmp_path / "jobs") == []


def test_waiting_is_explained_in_one_line() -> None:
    pending = Job("7", "PENDING", "Resources")
    assert waiting_for([pending]) == "waiting for the scheduler: job 7 is pending (Resources)"
    assert waiting_for([pending, Job("6", "RUNNING", "None")]) == ""
    assert waiting_for([]) == ""


@pytest.mark.parametrize(
    ("given", "told"), [("2-00:00:00", "48:00:00"), ("00:00:20", "00:01:00"), ("01:30:00", "01:30:00")]
)
def test_parsl_is_told_minutes(given: str, told: str) -> None:
    assert clock(given) == told
