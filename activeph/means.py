"""What crystals are prepared with before the first round."""

from __future__ import annotations

from dataclasses import dataclass

from activeph.config import Campaign
from activeph.execute.base import Workers
from activeph.progress import Progress
from activeph.rundir import RunDirectory
from activeph.store.ledger import Ledger


@dataclass(frozen=True)
class Means:
    """A campaign, where its files go, and who works on it."""

    campaign: Campaign
    directory: RunDirectory
    ledger: Ledger
    workers: Workers
    progress: Progress
