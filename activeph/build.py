"""From a campaign file to a finished campaign: the only module that puts everything together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from activeph.campaign import is_complete, run_rounds
from activeph.config import Campaign, check_inputs, load_campaign
from activeph.config.budget import cores_per_label
from activeph.config.resume import open_run
from activeph.costs import WITHOUT_COST, core_hours
from activeph.entries import campaign_entries
from activeph.errors import ActivephError, BudgetSpent, InputError, Paused
from activeph.identity import label_key
from activeph.loop import Loop
from activeph.means import Means
from activeph.preparation import prepare_systems
from activeph.progress import Progress
from activeph.records import Label
from activeph.recovery import lost_files, lost_members, missing_records
from activeph.role import Role
from activeph.rundir import RunDirectory, read_resolved, write_bytes
from activeph.state import PREPARED, Fold, fold
from activeph.store.durable import NO_SPACE
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger, ledger_of
from activeph.store.lock import DirectoryLock
from activeph.systems import read_phonopy


def run_campaign(path: Path, output: Path | None, progress: Progress) -> str:
    """Run or continue the campaign of a file; return what there is to say at the end.

    ``output`` is the run directory, ``runs/<name>`` under the current directory by default. Raises InputError for the
    user's mistakes and Paused where the campaign stopped cleanly before its end.
    """
    campaign = load_campaign(path)
    check_inputs(campaign)
    directory = RunDirectory((output or Path("runs") / campaign.name).absolute())
    with _pausing_without_room(), DirectoryLock(directory.root):
        campaign = open_run(campaign, directory)
        journal = Journal(directory.journal)
        ledger = _open_ledger(campaign, directory)
        memory = Fold()
        state = memory.after(journal.events())
        is_whole = (directory.report / "report.html").exists() and not missing_records(state, ledger)
        is_whole = is_whole and not lost_members(state, directory, campaign.model.members)
        is_whole = is_whole and not lost_files(state, directory)
        if is_whole and is_complete(campaign, state):
            return f"{campaign.name} is complete: nothing to do.\n{_conclude(directory)}"
        ledger.sweep()
        directory.stopped.unlink(missing_ok=True)
        try:
            with campaign.execute.start(directory.root / "jobs") as workers:
                systems = prepare_systems(Means(campaign, directory, ledger, workers, progress))
                run_rounds(Loop(campaign, systems, directory, journal, ledger, workers, progress, memory))
        except ActivephError as reason:
            with suppress(OSError):  # what cannot be written any more may be the very reason
                write_bytes(directory.stopped, f"{reason}\n".encode())
            if isinstance(reason, BudgetSpent) and fold(journal.events()).evaluated:
                draw_report(directory)
            raise
        draw_report(directory)
        return _conclude(directory)


@contextmanager
def _pausing_without_room() -> Iterator[None]:
    """Turn a full disk, wherever it shows, into a clean stop: what is finished stays, and what is not is repeated."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        place = error.filename or "the run directory"
        raise Paused(f"{place} cannot be written: {error.strerror}; mend that, then run again.") from error


def prepare_campaign(path: Path, output: Path | None, progress: Progress) -> None:
    """Do what a campaign does before its first round: force constants, renormalised ones, thermal cells, defects.

    Arguments and errors are those of :func:`run_campaign`.
    """
    campaign = load_campaign(path)
    check_inputs(campaign)
    directory = RunDirectory((output or Path("runs") / campaign.name).absolute())
    with _pausing_without_room(), DirectoryLock(directory.root):
        campaign = open_run(campaign, directory)
        ledger = _open_ledger(campaign, directory)
        ledger.sweep()
        with campaign.execute.start(directory.root / "jobs") as workers:
            prepare_systems(Means(campaign, directory, ledger, workers, progress))


def _open_ledger(campaign: Campaign, directory: RunDirectory) -> Ledger:
    """Return the ledger of a run; labels that are shared with other campaigns are linked into the run directory."""
    shared, labels = campaign.ledger, directory.labels
    if shared is not None and not os.path.lexists(labels):
        shared.mkdir(parents=True, exist_ok=True)
        labels.symlink_to(shared)
    if shared is not None and labels.resolve() != shared.resolve():
        raise InputError(
            f"ledger must be where the labels of this run lie ({labels.resolve()}) but got {shared}; "
            "restore it, or start anew with another --output"
        )
    cores = cores_per_label(campaign.execute, campaign.label)
    return ledger_of(directory.root, cores, campaign.budget.core_hours)


def draw_pictures(directory: RunDirectory) -> list[Path]:
    """Draw the pictures of what has been measured into ``report/``; return their paths."""
    from activeph.report.figures import write_figures

    return write_figures(directory.root, label_costs(directory))


def label_costs(directory: RunDirectory) -> dict[str, float]:
    """Return the core-hours of all labels of a run by key; nothing where the labeler only looks them up."""
    campaign = read_resolved(directory.campaign)
    label, execute = campaign.get("label") or {}, campaign.get("execute") or {}
    if label.get("kind") in WITHOUT_COST:
        return {}
    state = fold(Journal(directory.journal).events())
    keys = {pick.key for step in (PREPARED, *state.picks) for pick in state.chosen(step)}
    places = (execute.get("cores_per_label"), execute.get("threads"), label.get("cores"))
    ledger = ledger_of(directory.root, max(one or 1 for one in places))
    cheap = _low_fidelity_keys(campaign.get("low_fidelity"), ledger, keys)
    costs = core_hours(ledger, {*keys, *cheap.values()})
    return {key: costs.get(key, 0) + costs.get(cheap.get(key, ""), 0) for key in keys if key in costs}


def _low_fidelity_keys(section: Mapping[str, Any] | None, ledger: Ledger, keys: Collection[str]) -> dict[str, str]:
    """Return, for labels by key, the key of what a cheap code has said of the same configuration."""
    if section is None:
        return {}
    labeler: Any = Role("labelers").validate(section)
    found = {key: ledger.get(key) for key in keys}
    fingerprint = labeler.fingerprint
    return {k: label_key(one.configuration, fingerprint) for k, one in found.items() if isinstance(one, Label)}


def draw_report(directory: RunDirectory) -> Path:
    """Draw pictures and page of what has been measured, from the run directory alone; return the page."""
    from activeph.report.page import write_report

    draw_pictures(directory)
    entries = campaign_entries(fold(Journal(directory.journal).events()), Ledger(directory.labels))
    stored = sorted((directory.root / "systems").glob("*/phonopy_params.yaml"))
    systems = {path.parent.name: read_phonopy(path.parent.name, path) for path in stored}
    return write_report(directory.root, entries, systems, label_costs(directory))


def _conclude(directory: RunDirectory) -> str:
    """Return where the report is and the answer."""
    from activeph.report.answer import answer
    from activeph.report.results import load_results

    return f"Report: {directory.report / 'report.html'}\n{answer(load_results(directory.root))}"
