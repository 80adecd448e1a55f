"""Files, TCP, signals and abstract sockets by Landlock: what is not allowed here stays closed for good.

Sources: linux/landlock.h, and Documentation/userspace-api/landlock.rst for what each version of the interface added.
"""

from __future__ import annotations

import ctypes
import os
import stat
from typing import TYPE_CHECKING

from gate.isolation.kernel import call

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
# From its version on, the rights that exist: 13 of the first, REFER, TRUNCATE, IOCTL_DEV.
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

READ = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEVICE
ALL = _RIGHTS[5]

_TCP = 4
_SCOPES = 6


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """Of the interface that this kernel has; 0 where there is none."""
    try:
        return call("syscall", _CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def rights(found: int) -> int:
    """The rights over files that a version of the interface knows."""
    return max((every for since, every in _RIGHTS.items() if since <= found), default=0)


def restrict(found: int, allowed: Iterable[tuple[str, int]]) -> list[int]:
    """Confine this thread and all that it starts to what is allowed.

    Args:
        found: `version()`, at least 1.
        allowed: Paths with READ, DEVICE or ALL of what lies beneath them; one that does not exist is passed over.

    Returns:
        Files that keep the entries of /proc alive, which the kernel would forget together with their permission.

    Raises:
        OSError: The kernel refuses.
    """
    wanted = _Ruleset(rights(found), 3 if found >= _TCP else 0, 3 if found >= _SCOPES else 0)
    size = 24 if found >= _SCOPES else 16 if found >= _TCP else 8
    ruleset = call("syscall", _CREATE_RULESET, ctypes.byref(wanted), size, 0)
    kept = [_allow(ruleset, path, right & wanted.files) for path, right in allowed]
    call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return [file for file in kept if file is not None]


def _allow(ruleset: int, path: str, right: int) -> int | None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return None
    if not stat.S_ISDIR(os.fstat(file).st_mode):
        right &= _OF_FILES
    call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(right, file)), 0)
    if path.startswith("/proc/"):
        return file
    os.close(file)
    return None
