"""Which file the name of a policy, or an entry of `extends`, means."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gate.policy import packs
from gate.policy.files import similar_file

_LONGEST_PATH = 1000
_ABOUT_PACKS = " A pack is named with its major version, such as `classifier@1`."


class Found(NamedTuple):
    """The file of a policy.

    Attributes:
        file: Where it is.
        name: How it is called: a pack as it was asked for, any other by its path.
        pack: Name of the pack, None where it is none.
        major: Version of the pack that was asked for.
    """

    file: Path
    name: str
    pack: str | None = None
    major: str | None = None

    def version_fault(self, version: str) -> str | None:
        """What is wrong with the version of the pack that was asked for, None when nothing is."""
        return None if self.pack is None else packs.version_fault(self.pack, self.major, version)


def find(reference: str) -> Found:
    """What a person means: a file, or else a pack; a folder of the same name does not count."""
    name, major = packs.named(reference) or (None, None)
    pack = None if name is None or Path(reference).is_file() else packs.path_of(name)
    return Found(Path(reference), reference) if pack is None else Found(pack, reference, name, major)


def extended(reference: str, by: tuple[Path, ...]) -> Found | str:
    """What an entry of `extends` means, or what is wrong with it.

    Args:
        reference: The entry: a pack, or a path from the folder of the policy.
        by: The policy, after those that extend it.
    """
    pack = packs.named(reference) if len(reference) <= _LONGEST_PATH else None
    found = _pack(reference, *pack) if pack else _file(reference, by[-1].parent)
    if isinstance(found, str):
        return found
    if found.file.samefile(by[-1]):
        return f"{reference!r} is this policy itself; take it out"
    if any(found.file.samefile(each) for each in by):
        return f"{reference!r} extends this policy in turn; take one of the two out"
    return found


def _pack(reference: str, name: str, major: str | None) -> Found | str:
    path = packs.path_of(name)
    if path is None:
        return packs.missing(name, major)
    return Found(path, reference, name, major)


def _file(reference: str, folder: Path) -> Found | str:
    path = folder / reference
    if len(reference) > _LONGEST_PATH:
        return f"{reference[:40]!r}… has {len(reference)} characters, which is no path of a policy file"
    if not path.is_file():
        return f"there is no policy file {str(path)!r}.{similar_file(path) or _ABOUT_PACKS}"
    return Found(path, str(path))
