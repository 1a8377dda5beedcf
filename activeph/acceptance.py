"""A user's word against a doubt: labels that were set aside are taken back."""

from __future__ import annotations

from activeph.errors import InputError
from activeph.rundir import RunDirectory
from activeph.state import OUTLIER, acceptance_event, fold
from activeph.store.journal import Journal
from activeph.store.lock import DirectoryLock


def accept(directory: RunDirectory, start: str) -> str:
    """Take the one doubted label whose key begins with ``start`` back into its campaign; return its key.

    It counts as a label of every repeat that chose it and trains from the next round on; rounds that are finished stay
    what they were. Raises InputError where no doubted label is named so, where it belongs to the test set, which is
    frozen, and while a driver holds the run directory.
    """
    with DirectoryLock(directory.root):
        journal = Journal(directory.journal)
        state = fold(journal.events())
        found = {
            each.pick.key: step
            for step, gone in state.set_aside.items()
            for each in gone
            if each.reason == OUTLIER and each.pick.key.startswith(start.lower())
        }
        if len(found) != 1:
            raise InputError(
                f"KEY must be a label that was set aside as an outlier but got {start!r}, which {len(found)} of them "
                "begin with; 'activeph status' lists them"
            )
        key = next(iter(found))
        if any(each.pick.key == key for each in state.set_aside.get(None, ())) and state.labelled:
            raise InputError(
                f"KEY must be a label of an arm but got {key} of the test set, which is frozen; leave it aside"
            )
        journal.append(acceptance_event(key))
    return key
