"""What the steps of a campaign work with, and how they look up what the journal and the ledger know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from activeph.config import Campaign
from activeph.dataset import make_dataset
from activeph.errors import InputError, Paused
from activeph.execute.base import Workers
from activeph.label.base import Labeler
from activeph.labelling import Obtained
from activeph.prepared import prepared_configurations
from activeph.progress import Progress, Stage
from activeph.proposal import Pools, campaign_pools, test_pools
from activeph.records import Configuration, Dataset, Label, System
from activeph.rundir import RunDirectory
from activeph.sample import base
from activeph.state import PREPARED, Fold, Pick, State, Step
from activeph.store.journal import Journal
from activeph.store.ledger import Ledger, label_key
from activeph.store.packed import LabelPack
from activeph.targets import read_targets


@dataclass(frozen=True)
class Loop:
    """What the steps of a campaign work with. Everything that changes lies in the journal, the ledger and the files."""

    campaign: Campaign
    systems: Mapping[str, System]
    directory: RunDirectory
    journal: Journal
    ledger: Ledger
    workers: Workers
    progress: Progress
    memory: Fold = field(default_factory=Fold)  # of the journal, which only this loop writes

    @cached_property
    def labels(self) -> LabelPack:
        """The ledger's labels without their bands, read fast: for training and choosing."""
        return LabelPack(self.ledger, self.directory.pack)

    @property
    def state(self) -> State:
        """Where the campaign stands, read from the journal."""
        return self.memory.after(self.journal.events())


def member_paths(loop: Loop, step: Step) -> tuple[Path, ...]:
    """Return where the states of a step's ensemble are, or will be."""
    return tuple(loop.directory.member(*step, member) for member in range(loop.campaign.model.members))


def refuse_absent_targets(campaign: Campaign, label: Label, name: str = "") -> None:
    """Raise InputError where a label, ``name`` in words, does not hold a target of the campaign."""
    for target, value in zip(campaign.targets, read_targets(label, campaign.targets), strict=True):
        if not np.isfinite(value):
            raise InputError(
                f"labeler {campaign.label.kind} must give the target {target} but got {value}{name}; "
                "remove it from targets"
            )


def counting(campaign: Campaign, labeler: Labeler, stage: Stage) -> Callable[[Obtained], None]:
    """Return what counts labels as they come.

    It raises InputError where one of the campaign's own labeler lacks a target, so that no other is paid for in vain.
    """

    def count(one: Obtained) -> None:
        if labeler == campaign.label and isinstance(one.outcome, Label):
            refuse_absent_targets(campaign, one.outcome, f" for label {one.key[:12]}")
        stage.advance()

    return count


def dataset_of(loop: Loop, picks: Sequence[Pick]) -> Dataset:
    """Return what of the picks became labels. Raises Paused where nothing did."""
    found = [(pick, loop.labels.get(pick.key)) for pick in picks]
    lost = [pick.key for pick, entry in found if entry is None]
    if lost:
        raise Paused(f"label {lost[0]} must be in the ledger but got no record; run again to calculate it anew.")
    good = [(pick, entry) for pick, entry in found if isinstance(entry, Label)]
    if not good:
        raise Paused(
            f"at least one of the chosen configurations must get a label but got none; "
            f"read the reasons in {loop.directory.labels} and change the labeler's settings or the sampler."
        )
    return make_dataset(
        [entry for _, entry in good],
        [pick.system for pick, _ in good],
        [_temperature(pick) for pick, _ in good],
        loop.campaign.targets,
        _low_fidelity(loop, [entry for _, entry in good]),
    )


def _low_fidelity(loop: Loop, labels: Sequence[Label]) -> list[Label | None] | None:
    """Return what the campaign's cheap code has said of labelled configurations, None where it has none."""
    if loop.campaign.low_fidelity is None:
        return None
    fingerprint = loop.campaign.low_fidelity.fingerprint
    found = [loop.labels.get(label_key(label.configuration, fingerprint)) for label in labels]
    return [entry if isinstance(entry, Label) else None for entry in found]


def _temperature(pick: Pick) -> float:
    return float("nan") if pick.temperature is None else pick.temperature


def step_pools(loop: Loop, step: Step) -> Pools:
    """Return the pools of a step."""
    return campaign_pools(loop.campaign, loop.systems, step)


def picks_at(
    loop: Loop, pools: Pools, indices: Sequence[int], uncertainties: Sequence[float] | None, wave: int = 0
) -> list[Pick]:
    """Return what the journal keeps of the candidates at joint indices."""
    places = pools.split(indices)
    spreads: Sequence[float | None] = uncertainties or [None] * len(places)
    return [
        Pick(
            id=candidate.id,
            system=candidate.system,
            index=index,
            temperature=None if np.isnan(candidate.temperature) else candidate.temperature,
            key=label_key(candidate.configuration, loop.campaign.label.fingerprint),
            uncertainty=spread,
            wave=wave,
        )
        for candidate, (_, index), spread in zip(pools.candidates(indices), places, spreads, strict=True)
    ]


def draw(loop: Loop, step: Step | None, picks: Sequence[Pick]) -> dict[str, Configuration]:
    """Return the configurations of some picks of a step (see :class:`State`) by ledger key."""
    if step == PREPARED:
        return prepared_configurations(loop.directory, picks)
    if step is not None:
        return configurations_of(step_pools(loop, step), picks)
    found: dict[str, Configuration] = {}
    for wave in sorted({pick.wave for pick in picks}):
        pools = test_pools(loop.campaign, loop.systems, wave)
        found |= configurations_of(pools, [pick for pick in picks if pick.wave == wave])
    return found


def configurations_of(pools: Pools, picks: Sequence[Pick]) -> dict[str, Configuration]:
    """Return the configurations of picks by ledger key, drawn again from their pools."""
    found: dict[str, Configuration] = {}
    for name, pool in zip(pools.names, pools.pools, strict=True):
        own = [one for one in picks if one.system == name]
        drawn = base.pick(pool, [one.index for one in own])
        found |= {one.key: candidate.configuration for one, candidate in zip(own, drawn, strict=True)}
    return found
