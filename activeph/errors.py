"""The errors a user meets. Each carries one sentence: what is wrong, "but got" what, and the remedy."""

from __future__ import annotations


class ActivephError(Exception):
    """Base of all errors that end a command with a sentence instead of a traceback (exit code 1)."""

    exit_code = 1


class InputError(ActivephError):
    """The user's input is wrong: a campaign file, a structure, an argument (exit code 2)."""

    exit_code = 2


class Paused(ActivephError):
    """The campaign stopped cleanly before its end; running the command again continues it (exit code 3)."""

    exit_code = 3


class BudgetSpent(Paused):
    """The core-hours of a campaign are used up; it can go on with more of them."""


class LabelFailed(ActivephError):
    """One calculation gave no label. It is recorded as a :class:`activeph.records.Failure`, never as a label.

    ``kind`` is one of ``unconverged``, ``crashed``, ``timeout``, ``unphysical`` or ``missing``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type[LabelFailed], tuple[str, str]]:
        return type(self), (self.kind, self.message)
