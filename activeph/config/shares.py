"""What an executor must leave a label: its cores, and the time to finish before a job ends."""

from __future__ import annotations

import math
from typing import Any, cast

from activeph.execute.base import Executor
from activeph.section import wrong_value


def suited(execute: Executor, label: Any) -> Executor:
    """Return the executor with ``label.cores`` for each task, where it says nothing else.

    Raises a complaint where it gives a label other cores, or less time at the end of a job than ``label.timeout``
    allows it (and every rung of its ladder).
    """
    section = cast(Any, execute)
    cores, timeout = getattr(label, "cores", None), getattr(label, "timeout", None)
    if hasattr(section, "cores_per_label") and cores is not None:
        if section.cores_per_label is None:
            section = section.model_copy(update={"cores_per_label": cores})
        if section.cores_per_label != cores:
            expected = f"must have cores_per_label {cores} (label.cores)"
            raise wrong_value(expected, "make them equal, or leave it out", str(section.cores_per_label))
    tries = 1 + len(getattr(label, "ladder", ()))
    if timeout is not None and tries * timeout > getattr(section, "label_seconds", math.inf):
        needed = f"{timeout:g} s (label.timeout)" + (f" for {tries} tries" if tries > 1 else "")
        expected = f"must keep at least {needed} of a job for its last label"
        raise wrong_value(
            expected, "raise execute.reserve or lower label.timeout", f"reserve {section.label_seconds} s"
        )
    return cast(Executor, section)
