"""Where the ready-made policies are, and which of them a name means."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

_NAMED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_-]*)(?:@(\d+))?$")


def folder() -> Path:
    """The packs: inside an installed package, beside the package in a checkout."""
    package = Path(str(files("gate")))
    installed = package / "policies"
    return installed if installed.is_dir() else package.parent / "policies"


def names() -> list[str]:
    """Every pack."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def named(reference: str) -> tuple[str, str | None] | None:
    """Name and major version of `NAME` or `NAME@MAJOR`, None when it is written like a file."""
    found = _NAMED.match(reference)
    return (found.group(1), found.group(2)) if found else None


def path_of(name: str) -> Path | None:
    """The file of a pack, None when there is none of that name."""
    path = folder() / f"{name}.yaml"
    return path if path.is_file() else None
