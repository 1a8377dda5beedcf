"""The base of every part of a campaign file: typed, strict, frozen, and at the same time the object that does the work.

A sampler, model, selector, labeler or executor *is* its own configuration: a frozen pydantic model whose fields are
the keys a user may write and whose methods fulfil the seam. It is therefore picklable and comparable by content.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One mapping of the campaign file. Unknown keys are refused; values are never coerced from other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    def content_hash(self) -> str:
        """Return 12 hex digits that change when any field changes."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
