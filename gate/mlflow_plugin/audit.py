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
    from collections.abc import Mapping
    from pathlib import Path

_TAIL = 65_536  # bytes in which the last line mostly begins
_FIRST = "0" * 64


class Audit:
    """An audit log, which any number of processes of one machine append to.

    Each line names the SHA-256 of the line before it, so that a line that is changed or taken out afterwards shows. A
    last line that was torn, as when power is lost, stays, and the entry after it names its SHA-256. No key is in this:
    whoever can write the file can write all lines after a change anew, or tear the last one.

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
                after = _mended(descriptor)
                if entry is not None:
                    _write(descriptor, _line(entry, after))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise GateError(
                f"the audit log {self._path} cannot be written: {error.strerror}; mend that first"
            ) from error


def chain(path: Path) -> tuple[list[dict[str, object]], str]:
    """The decisions of a log in order, and the SHA-256 of the last line.

    Among the decisions is, with a hash `torn`, what was written after a torn line.

    Args:
        path: Of the log.

    Raises:
        GateError: It cannot be read.
        VerificationError: A line was changed or taken out.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GateError(f"the audit log {path} cannot be read: {error.strerror}") from error
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    found, before, torn = list[dict[str, object]](), _FIRST, list[bytes]()
    for number, line in enumerate(lines, start=1):
        entry = _read(line)
        if entry is None and number < len(lines):
            torn.append(line)
            continue
        if entry is None and not content.endswith(b"\n"):
            raise VerificationError(
                f"{path}: the last line is torn, as when power is lost; the server goes on after it when it starts"
            )
        if entry is None or (entry.get("after"), entry.get("torn")) != (before, _hash(torn) if torn else None):
            raise VerificationError(
                f"{path}: line {number - len(torn)} does not follow from the one before it: the log was changed"
            )
        found.append(entry)
        before, torn = _hash([line]), []
    return found, before


def _read(line: bytes) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _line(entry: Mapping[str, object], after: str) -> bytes:
    stamped = {"time": datetime.now(UTC).isoformat(), **entry, "after": after}
    return json.dumps(stamped, ensure_ascii=True).encode() + b"\n"


def _hash(lines: list[bytes]) -> str:
    return sha256(b"\n".join(lines)).hexdigest()


def _write(descriptor: int, text: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, text) != len(text):
        os.ftruncate(descriptor, size)  # a line that we know to be torn need not stay
        raise OSError(0, "only a part of the line could be written")
    os.fdatasync(descriptor)


def _mended(descriptor: int) -> str:
    """The SHA-256 of the last line, after which the next one can be written."""
    after, torn = _end(descriptor)
    if torn is None:
        return after
    if not torn:
        _write(descriptor, b"\n")
        return after
    line = _line({"what": "a line that was torn", "decision": "recovered", "torn": _hash(torn)}, after)
    _write(descriptor, b"\n" + line)
    return _hash([line.removesuffix(b"\n")])


def _end(descriptor: int) -> tuple[str, list[bytes] | None]:
    """The SHA-256 of the last whole line, and what was torn after it; None where the log ends in a newline.

    A line that only lacks its newline is whole. More than one can be torn: power may fail while the first is mended.
    """
    size, span = os.fstat(descriptor).st_size, _TAIL
    while True:
        lines = os.pread(descriptor, min(size, span), max(0, size - span)).split(b"\n")
        ends, last = not lines[-1], len(lines) - 1
        whole = last - 1 if ends else next((at for at in range(last, -1, -1) if _read(lines[at]) is not None), -1)
        if whole > 0 or span >= size:
            return _hash([lines[whole]]) if whole >= 0 else _FIRST, None if ends else lines[whole + 1 :]
        span *= 2
