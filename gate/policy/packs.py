"""Where the ready-made policies are, and which of them a name means."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)(?:@([0-9]+))?")


def folder() -> Path:
    """The packs: inside an installed package, beside the package in a checkout."""
    package = Path(str(files("gate")))
    installed = package / "policies"
    return installed if installed.is_dir() else package.parent / "policies"


def names() -> list[str]:
    """Every pack; tests of one, `NAME.test.yaml`, are none."""
    return sorted(path.stem for path in folder().glob("*.yaml") if _NAMED.fullmatch(path.stem))


def named(reference: str) -> tuple[str, str | None] | None:
    """Name and major version of `NAME` or `NAME@MAJOR`, None when it is written like a file."""
    found = _NAMED.fullmatch(reference)
    return (found.group(1), found.group(2)) if found else None


def path_of(name: str) -> Path | None:
    """The file of a pack, None when there is none of that name."""
    path = folder() / f"{name}.yaml"
    return path if path.is_file() else None


def missing(name: str, major: str | None) -> str:
    """That there is no such pack, and which one may have been meant."""
    near = get_close_matches(name, names(), n=1)
    if near:
        return f"there is no pack {name!r}. Did you mean `{near[0]}{f'@{major}' if major else ''}`?"
    file = f"a file is named with its ending, such as `{name}.yaml`"
    return f"there is no pack {name!r}. There are: {', '.join(names())}; {file}"


def version_fault(name: str, major: str | None, version: str) -> str | None:
    """What is wrong with the major version that was asked for; None when nothing is.

    Args:
        name: Of the pack.
        major: That was asked for.
        version: Of the pack that there is.
    """
    current = f"{name}@{version.partition('.')[0]}"
    if major is None:
        return f"names no version of the pack {name!r}; write `{current}`"
    if f"{name}@{major}" != current:
        return f"there is no version {major} of the pack {name!r}, this is {version}; write `{current}`"
    return None
