"""Which versions concern the relay, whoever told of them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Ignored = Literal["prompt", "unusable name", "other model"]

_PROMPTS = ("dummy-source", "prompt-template")  # a version with one of these sources has no files
# MLflow leaves out control characters when it reads `models:/NAME/VERSION`, and ends the name at a question mark: such
# a URI names another model. A surrogate is no text at all.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/:?]")
_LONGEST = 256


def ignored(name: str, source: str, patterns: Sequence[str]) -> Ignored | None:
    """Why a version is left alone; None where it is to be checked.

    A prompt is told by its source and not by its tag: a tag can be set on a real model.

    Args:
        name: Of the registered model.
        source: Of the version.
        patterns: Of shell style, case as written; one that matches is enough.
    """
    if source in _PROMPTS:
        return "prompt"
    if not name.strip() or len(name) > _LONGEST or _UNUSABLE.search(name):
        return "unusable name"
    return None if any(fnmatchcase(name, pattern) for pattern in patterns) else "other model"
