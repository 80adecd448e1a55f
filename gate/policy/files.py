"""The text of policy files; a file that is not there is refused with the one that may have been meant."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import Fault, PolicyError, UsageError
from gate.policy import packs

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Source:
    """A file that a policy was made of."""

    path: str
    text: str
    digest: str  # "sha256:…" of its bytes


def read_source(path: str | Path, kind: str, name: str | None = None) -> Source:
    """The text of a YAML file.

    Args:
        path: Of the file.
        kind: What it should be, for messages ("policy").
        name: How it is called, its path when None.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: It is no text in UTF-8.
    """
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{kind} {str(path)!r} is a folder, expected a YAML file")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        ready_made = packs.names() if kind == "policy" and file.parent == Path() else ()
        offer = similar_file(file, ready_made)
        raise UsageError(f"{kind} {str(path)!r} does not exist, expected a YAML file.{offer}") from None
    except OSError as error:
        raise UsageError(f"{kind} {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"not a text file: byte {content[error.start]:#04x} is not UTF-8; expected a YAML file in UTF-8"
        raise PolicyError((Fault(name or str(path), line, column, message),)) from None
    return Source(name or str(path), text, f"sha256:{sha256(content).hexdigest()}")


def similar_file(file: Path, others: Iterable[str] = ()) -> str:
    """The end of a message: the file, or one of the other names, that is nearest; nothing when none is near."""
    if not file.parent.is_dir():
        return f" There is no folder {str(file.parent)!r} either."
    # Without their ends, which are alike wherever a file is YAML.
    there = [each.name for each in file.parent.iterdir() if get_close_matches(file.stem, [each.stem])]
    near = get_close_matches(file.name, there, n=1)
    other = get_close_matches(file.name, list(others), n=1)
    offer = f"{file.parent / near[0]}" if near else f"{other[0]}" if other else None
    return f" Did you mean `{offer}`?" if offer else ""
