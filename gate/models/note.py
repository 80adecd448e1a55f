"""The note that MLflow writes into the download of a model: where the copy came from.

It differs from download to download, so no digest covers it, and nothing may be kept in it that a model could read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gate.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "registered_model_meta"
"""Its name, at the root of a model."""
MOST = 4096
"""Bytes that it can have: names of registered models end at 256 characters."""

_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


def is_note(content: bytes) -> bool:
    """Whether this is what MLflow writes: YAML with the name and the number of a registered version, nothing else.

    Of a logged model (`models:/m-…`), both are null; of a version that an alias names, the number is not in quotes.

    Args:
        content: Of the file; more than `MOST` bytes are never a note.
    """
    import yaml

    try:
        # Its nodes and not its values: those of a small file can be beyond all bounds.
        root = yaml.compose(content, yaml.SafeLoader) if len(content) <= MOST else None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return False
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    if [key.value for key, _ in pairs] != ["model_name", "model_version"]:
        return False
    name, version = (value for _, value in pairs)
    if not (isinstance(name, yaml.ScalarNode) and isinstance(version, yaml.ScalarNode)):
        return False
    return bool(name.tag == version.tag == _NULL or (name.tag == _TEXT and version.value.isdecimal()))


def stray(where: str) -> str:
    """What is said of a file that has the name of the note, and is none.

    Args:
        where: The file lies.
    """
    return (
        f"{where}: MLflow writes a file of this name into what it downloads, so it is no part of a model and is not "
        "digested, but it holds more than the name and the number of a version; remove it"
    )


def require_note(path: Path) -> None:
    """Refuses a file that has the name of the note, and is none.

    Args:
        path: Of the file.

    Raises:
        ModelError: It holds something else.
    """
    with path.open("rb") as stream:
        if not is_note(stream.read(MOST + 1)):
            raise ModelError(stray(str(path)))
