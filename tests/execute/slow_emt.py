"""ASE's effective medium theory made slow, with a note at the start of a calculation and another at its end."""

import hashlib
import os
import time
import uuid
from pathlib import Path
from typing import Any

from ase.calculators.emt import EMT


class SlowEMT(EMT):
    """``notes`` is a directory; notes are named by the configuration, so that what ran twice can be counted."""

    def __init__(self, notes: str, seconds: float) -> None:
        super().__init__()
        self._notes, self._seconds = Path(notes), seconds

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        name = hashlib.sha256(atoms.positions.tobytes() + atoms.cell.array.tobytes()).hexdigest()[:16]
        run = self._notes / f"{name}.{uuid.uuid4().hex[:8]}"
        run.with_suffix(f"{run.suffix}-started").write_text(str(os.getpid()))
        time.sleep(self._seconds)
        super().calculate(atoms, *arguments, **keywords)
        run.with_suffix(f"{run.suffix}-finished").touch()
