"""From a campaign file to a finished campaign: the only module that puts everything together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from activeph.campaign import Loop, is_complete, run_rounds
from activeph.config import Campaign, SystemSection, check_inputs, load_campaign
from activeph.config.resume import open_run
from activeph.entries import campaign_entries
from activeph.errors import Paused
from activeph.execute.base import Workers
from activeph.identity import aligned
from activeph.labelling import obtain
from activeph.progress import Progress
from activeph.records import Failure, FloatArray, System
from activeph.renormalisation import renormalised_system
from activeph.rundir import RunDirectory
from activeph.state import fold
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger, label_key
from activeph.store.lock import DirectoryLock
from activeph.systems import finite_displacements, load_system, read_phonopy, with_force_constants, write_phonopy


def run_campaign(path: Path, output: Path | None, progress: Progress) -> str:
    """Run or continue the campaign of a file; return what there is to say at the end.

    ``output`` is the run directory, ``runs/<name>`` under the current directory by default. Raises InputError for the
    user's mistakes and Paused where the campaign stopped cleanly before its end.
    """
    campaign = load_campaign(path)
    check_inputs(campaign)
    directory = RunDirectory((output or Path("runs") / campaign.name).absolute())
    with DirectoryLock(directory.root):
        campaign = open_run(campaign, directory)
        journal = Journal(directory.journal)
        if is_complete(campaign, fold(journal.events())):
            return f"{campaign.name} is complete: nothing to do.\n{_conclude(directory)}"
        ledger = Ledger(directory.labels)
        ledger.sweep()
        with campaign.execute.start(directory.root / "jobs") as workers:
            systems = prepare_systems(campaign, directory, ledger, workers, progress)
            run_rounds(Loop(campaign, systems, directory, journal, ledger, workers, progress))
        draw_report(directory)
        return _conclude(directory)


def prepare_systems(
    campaign: Campaign, directory: RunDirectory, ledger: Ledger, workers: Workers, progress: Progress
) -> Mapping[str, System]:
    """Return the campaign's systems; force constants that the labeler must give are labelled first."""
    return {
        section.name: _prepare(section, campaign, directory, ledger, workers, progress) for section in campaign.systems
    }


def _prepare(
    section: SystemSection,
    campaign: Campaign,
    directory: RunDirectory,
    ledger: Ledger,
    workers: Workers,
    progress: Progress,
) -> System:
    """Return one system, its force constants read back from the run directory so that every start uses equal digits."""
    path = directory.system(section.name)
    if not path.exists():
        given = section.force_constants if isinstance(section.force_constants, Path) else None
        system = load_system(section.name, section.structure, section.supercell, given)
        if given is None:
            forces = _label_displacements(system, section, campaign, ledger, workers, progress)
            system = with_force_constants(system, forces, section.displacement)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_phonopy(system, path)
    system = load_system(section.name, section.structure, section.supercell, path)
    return renormalised_system(system, section, campaign, path.parent, ledger, workers, progress)


def _label_displacements(
    system: System,
    section: SystemSection,
    campaign: Campaign,
    ledger: Ledger,
    workers: Workers,
    progress: Progress,
) -> FloatArray:
    """Return the forces [n, N, 3] in eV/Å of the finite displacements. Raises Paused where one of them has no label."""
    configurations = finite_displacements(system, section.displacement)
    with progress.stage(f"{section.name}: force constants", len(configurations)) as stage:
        found = obtain(campaign.label, configurations, ledger, workers, lambda _: stage.advance())
    forces = []
    for configuration in configurations:
        key = label_key(configuration, campaign.label.fingerprint)
        outcome = found[key]
        if isinstance(outcome, Failure):
            raise Paused(
                f"finite displacements of {section.name} must all converge but got {outcome.kind}: {outcome.message}; "
                f"see {ledger.directory(key)}, or give force_constants as a file."
            )
        forces.append(aligned(outcome, configuration).forces)
    return np.array(forces)


def draw_report(directory: RunDirectory) -> Path:
    """Draw pictures and page of what has been measured, from the run directory alone; return the page."""
    from activeph.report.figures import write_figures
    from activeph.report.page import write_report

    write_figures(directory.root)
    entries = campaign_entries(fold(Journal(directory.journal).events()), Ledger(directory.labels))
    stored = sorted((directory.root / "systems").glob("*/phonopy_params.yaml"))
    systems = {path.parent.name: read_phonopy(path.parent.name, path) for path in stored}
    return write_report(directory.root, entries, systems)


def _conclude(directory: RunDirectory) -> str:
    """Return where the report is and the answer."""
    from activeph.report.answer import answer
    from activeph.report.results import load_results

    return f"Report: {directory.report / 'report.html'}\n{answer(load_results(directory.root))}"
