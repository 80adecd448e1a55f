"""The log of every decision of a registry server: one JSON object on a line, appended and never changed."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from gate.errors import GateError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TAIL = 65_536  # bytes in which the last line mostly begins
_FIRST = "0" * 64


class Audit:
    """An audit log, which any number of processes of one machine append to.

    Each line names the SHA-256 of the line before it, so that a line that is changed or taken out afterwards shows.

    Args:
        path: Of the log; made with its folder when missing.

    Raises:
        GateError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.append(None)

    @property
    def locks(self) -> Path:
        """A folder for locks that all processes which write this log share."""
        return self._path.with_name(self._path.name + ".locks")

    def append(self, entry: Mapping[str, object] | None) -> None:
        """Write one decision down, on the disk before this returns; without one, only see that it could be.

        Args:
            entry: What was decided; the time is added.

        Raises:
            GateError: It cannot be written, so nothing may be decided.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o640)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if entry is not None:
                    _write(descriptor, {"time": datetime.now(UTC).isoformat(), **entry, "after": _last(descriptor)})
            finally:
                os.close(descriptor)
        except OSError as error:
            raise GateError(
                f"the audit log {self._path} cannot be written: {error.strerror}; mend that first"
            ) from error


def entries(path: Path) -> Iterator[dict[str, object]]:
    """The decisions of a log, in order.

    Args:
        path: Of the log.

    Raises:
        GateError: It cannot be read.
        VerificationError: A line was changed or taken out.
    """
    before = _FIRST
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise GateError(f"the audit log {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or entry.get("after") != before:
            raise VerificationError(
                f"{path}: line {number} does not follow from the one before it: the log was changed"
            )
        before = sha256(line).hexdigest()
        yield entry


def _write(descriptor: int, entry: Mapping[str, object]) -> None:
    line, size = json.dumps(entry, ensure_ascii=True).encode() + b"\n", os.fstat(descriptor).st_size
    if os.write(descriptor, line) != len(line):
        os.ftruncate(descriptor, size)  # half a line would break the chain for ever
        raise OSError(0, "only a part of the line could be written")
    os.fdatasync(descriptor)


def _last(descriptor: int) -> str:
    """The SHA-256 of the last line."""
    size, span = os.fstat(descriptor).st_size, _TAIL
    while True:
        tail = os.pread(descriptor, min(size, span), max(0, size - span)).rstrip(b"\n")
        if b"\n" in tail or span >= size:
            return sha256(tail.rpartition(b"\n")[2]).hexdigest() if tail else _FIRST
        span *= 2
