"""Writing the files of a model, and freezing them, never at the same time.

Locks are files beside the audit log: they hold for all workers of a server on one machine, or on a shared file system.
Each is held for a moment, never while a client sends.
"""

from __future__ import annotations

import fcntl
import os
import posixpath
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from zlib import crc32

from gate.errors import VerificationError
from gate.mlflow_plugin.locations import WORKSPACES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEPTH = 3  # parts of a path that name a model: EXPERIMENT/models/m-…, after workspaces/NAME where that is before it
_ABOVE = "above"  # the lock of all paths that are shorter
_MODELS = tuple(f"models-{number}" for number in range(64))
_PATIENCE = 20.0  # seconds until uploads are over
_PAUSE = 0.05
_this_thread = threading.local()


@contextmanager
def writing(folder: Path, path: str) -> Iterator[None]:
    """While something is written or removed at a path of the artifact store; others may write as well.

    Args:
        folder: Of the locks.
        path: From the root of the store.
    """
    lock = folder / _name(path)
    mine: set[Path] = vars(_this_thread).setdefault("writes", set())
    # A folder is written file by file: waiting behind who waits for us would never end.
    if not mine.isdisjoint({lock, folder / _ABOVE}):
        yield
        return
    with _held(lock, fcntl.LOCK_SH):
        mine.add(lock)
        try:
            yield
        finally:
            mine.remove(lock)


@contextmanager
def freezing(folder: Path, path: str) -> Iterator[None]:
    """While the files below a path become frozen: waits until nothing is written to them.

    Args:
        folder: Of the locks.
        path: From the root of the store.

    Raises:
        VerificationError: Writing does not end.
    """
    name, ends = _name(path), time.monotonic() + _PATIENCE
    with ExitStack() as held:
        try:
            # The lock that all models share comes last: nobody waits for the uploads of another model.
            for each in (*(_MODELS if name == _ABOVE else [name]), _ABOVE):
                held.enter_context(_held(folder / each, fcntl.LOCK_EX, ends))
        except BlockingIOError:
            raise VerificationError(f"files are being uploaded to {path!r}; record the check again later") from None
        yield


def _name(path: str) -> str:
    """The lock of a path: its model's, or that of all paths above models."""
    parts = posixpath.normpath(path).split("/")
    depth = _DEPTH + 2 * (parts[0] == WORKSPACES)
    if len(parts) < depth:
        return _ABOVE
    return _MODELS[crc32("/".join(parts[:depth]).encode()) % len(_MODELS)]


@contextmanager
def _held(path: Path, kind: int, ends: float | None = None) -> Iterator[None]:
    """A lock, taken in turn: whoever waits for it keeps the turn, so that later ones cannot pass for ever.

    A file that was removed meanwhile is not the one that others lock.
    """
    file = path.with_suffix(".lock")
    while True:
        with _opened(file) as lock:
            with _opened(path.with_suffix(".turn")) as turn:
                _take(turn, fcntl.LOCK_EX, ends)
                _take(lock, kind, ends)
            if file.exists() and os.path.samestat(os.fstat(lock), file.stat()):
                yield
                return


def _take(descriptor: int, kind: int, ends: float | None) -> None:
    if ends is None:
        return fcntl.flock(descriptor, kind)
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise
            time.sleep(_PAUSE)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o640)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
