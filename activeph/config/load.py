"""From a path to a campaign, or to one sentence that says what to change."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from activeph.config.fields import folder_word
from activeph.config.schema import Campaign
from activeph.config.sentences import place, sentence
from activeph.document import Mark, read_document
from activeph.errors import InputError
from activeph.section import SourceText

RECORDED = ("files", "versions", "fingerprint")  # what a run's campaign.yaml holds besides the keys of a campaign


def load_campaign(path: Path | str) -> Campaign:
    """Return the campaign of a file, its paths absolute and its defaults filled in. Raises InputError."""
    path = _absolute(path)
    root = read_document(path)
    if all(key in root for key in RECORDED):
        for key in RECORDED:
            del root[key]
    root.setdefault("name", SourceText(folder_word(path.stem), path.parent))
    try:
        return Campaign.model_validate(root).read_from(path)
    except ValidationError as error:
        raise InputError(sentence(error, root, Campaign)) from None


def locate(path: Path | str, *key: str | int) -> Mark:
    """Return where a key stands in a campaign file: the place of its nearest parent where it is not written."""
    return place(key, read_document(_absolute(path)), Campaign)


def _absolute(path: Path | str) -> Path:
    return Path(os.path.abspath(path))
