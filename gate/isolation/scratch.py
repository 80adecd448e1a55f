"""The one folder that a worker may write in: it is made for it, and it goes, whatever was made in it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def made() -> Path:
    """A new folder for the worker, in a new folder that stays closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="gate-model-")) / "scratch"
    folder.mkdir(mode=0o700)
    return folder


def removed(folder: Path) -> None:
    """Remove what `made` made, however deep it is nested by now and whatever modes it has.

    Folders are moved to the top one after the other: no path gets longer than the system takes, and nothing recurs.
    """
    top, moved = folder.parent, 0
    waiting = [str(folder)]
    while waiting:
        each = waiting.pop()
        for inner in _emptied(each):
            os.chmod(inner, 0o700)  # noqa: PTH101 - its path may be no valid text
            moved += 1
            waiting.append(str(top / str(moved)))
            os.rename(inner, waiting[-1])  # noqa: PTH104 - as above
        os.rmdir(each)  # noqa: PTH106 - as above
    top.rmdir()


def _emptied(folder: str) -> Iterator[str]:
    """Remove the files of a folder; its folders are left to the caller."""
    os.chmod(folder, 0o700)  # noqa: PTH101 - as above
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                yield entry.path
            else:
                os.unlink(entry.path)  # noqa: PTH108 - as above
