"""Writing the files of a model, and freezing them, never at the same time.

Locks are files beside the audit log: they hold for all workers of a server on one machine, or on a shared file system.
"""

from __future__ import annotations

import fcntl
import os
import posixpath
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from zlib import crc32

from gate.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCKS = 64
_DEPTH = 3  # parts of a path that name a model: EXPERIMENT/models/m-…
_PATIENCE = 20.0  # seconds until uploads are over
_PAUSE = 0.05


@contextmanager
def writing(folder: Path, path: str) -> Iterator[None]:
    """While something is written or removed at a path of the artifact store; others may write as well.

    Args:
        folder: Of the locks.
        path: From the root of the store.
    """
    with ExitStack() as held:
        for number in _numbers(path):
            fcntl.flock(held.enter_context(_opened(folder, number)), fcntl.LOCK_SH)
        yield


@contextmanager
def freezing(folder: Path, path: str) -> Iterator[None]:
    """While the files below a path become frozen: waits until no upload to them is under way.

    Args:
        folder: Of the locks.
        path: From the root of the store.

    Raises:
        VerificationError: Uploads do not end.
    """
    with ExitStack() as held:
        for number in _numbers(path):
            _taken(held.enter_context(_opened(folder, number)), path)
        yield


def _taken(descriptor: int, path: str) -> None:
    ends = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise VerificationError(f"files are being uploaded to {path!r}; record the check again later") from None
            time.sleep(_PAUSE)


def _numbers(path: str) -> list[int]:
    """The locks of a path: one of a model's, every one where it is above models."""
    parts = posixpath.normpath(path).split("/")
    if len(parts) < _DEPTH:
        return list(range(_LOCKS))
    return [crc32("/".join(parts[:_DEPTH]).encode()) % _LOCKS]


@contextmanager
def _opened(folder: Path, number: int) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{number}.lock", os.O_CREAT | os.O_RDWR, 0o640)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
