"""Closes the process it runs in, before a model comes: network, files, other processes, memory and time.

Only the standard library is imported, because the process may still have only one thread. Several measures overlap on
purpose; what could not be had is said, and never passed over.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gate.isolation import landlock, seccomp
from gate.isolation.kernel import call, prctl

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEW_IPC, _NEW_USER, _NEW_NET = 0x08000000, 0x10000000, 0x40000000
_PARENT_DEATH, _DUMPABLE, _DROP_BOUNDING, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 4, 24, 38, 47
_CLEAR_ALL = 4
_CAPABILITIES_VERSION = 0x20080522
_OPEN = "so that the model may start processes and signal those of the user"
_FILE_BYTES, _OPEN_FILES, _TASKS = 1 << 30, 1024, 4096


@dataclass(frozen=True)
class Permission:
    """What the process keeps.

    Attributes:
        readable: Files and folders to read and to map as code.
        writable: Folders to do anything in.
        devices: Files under /dev to read from and to write to.
        memory: Bytes of private memory.
        processor_seconds: Of all threads together; None leaves them unbounded.
    """

    readable: Sequence[str]
    writable: Sequence[str]
    devices: Sequence[str]
    memory: int
    processor_seconds: int | None


@dataclass
class _Report:
    """What was had, and what was not."""

    had: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, what: str, how: str) -> None:
        self.had.setdefault(what, []).append(how)

    def miss(self, what: str, reason: object) -> None:
        self.missing.append(f"{what}: {reason}")

    def summary(self) -> dict[str, object]:
        return {**{what: "; ".join(how) for what, how in self.had.items()}, "missing": self.missing}


def confine(permission: Permission, parent: int) -> dict[str, object]:
    """Close this process, for good.

    Args:
        permission: What it keeps.
        parent: Number of the process that started it, with which it ends.

    Returns:
        "network", "files", "processes", "other processes", "privileges", "memory", "processor" → how each is confined,
        as far as it is; "missing" → a list of what could not be had, each with the reason.
    """
    report = _Report()
    prctl(_NO_NEW_PRIVILEGES, 1)
    own_users = _namespaces(report)
    _limits(permission, report, own_users=own_users)
    _files(permission, report)
    _capabilities(report)
    prctl(_DUMPABLE, 0)
    prctl(_PARENT_DEATH, signal.SIGKILL)
    if os.getppid() != parent:  # it went before it could be named
        os._exit(1)
    _calls(report)
    return report.summary()


def _namespaces(report: _Report) -> bool:
    """Network and System V objects of its own; whether the users are its own as well."""
    user, group = os.getuid(), os.getgid()
    refusal: OSError | None = None
    for flags in (_NEW_USER | _NEW_NET | _NEW_IPC, _NEW_NET | _NEW_IPC):
        try:
            call("unshare", flags)
        except OSError as error:
            refusal = refusal or error
            continue
        if flags & _NEW_USER:
            _map("setgroups", "deny")
            _map("uid_map", f"{user} {user} 1")
            _map("gid_map", f"{group} {group} 1")
        report.add("network", "a namespace without interfaces")
        return bool(flags & _NEW_USER)
    report.miss("a network namespace", refusal)
    return False


def _map(name: str, text: str) -> None:
    # Without a map the process is the overflow user, who can do less.
    with suppress(OSError), open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - no more imports
        file.write(text)


def _limits(permission: Permission, report: _Report, *, own_users: bool) -> None:
    wanted: dict[int, int] = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _FILE_BYTES,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_DATA: permission.memory,
    }
    if own_users:  # elsewhere the count is that of the user, whatever else he runs
        wanted[resource.RLIMIT_NPROC] = _TASKS
    for which, most in wanted.items():
        _limit(which, most, most)
    report.add("memory", f"{permission.memory / (1 << 30):.3g} GiB: RLIMIT_DATA, and what is resident is watched")
    if permission.processor_seconds is not None:
        # The first is a signal that says what happened; the second ends a process that does not listen to it.
        _limit(resource.RLIMIT_CPU, permission.processor_seconds, permission.processor_seconds + 1)
        report.add("processor", f"{permission.processor_seconds} seconds: RLIMIT_CPU")


def _limit(which: int, soft: int, hard: int) -> None:
    _, present = resource.getrlimit(which)
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(which, (soft, hard))


def _files(permission: Permission, report: _Report) -> None:
    found = landlock.version()
    if not found:
        report.miss("files", "the kernel has no Landlock, so that the model reads and writes what the user may")
        return
    allowed = [(path, landlock.READ) for path in permission.readable]
    allowed += [(path, landlock.DEVICE) for path in permission.devices]
    allowed += [(path, landlock.ALL) for path in permission.writable]
    landlock.restrict(found, allowed)
    report.add("files", f"only the model and libraries to read, one folder to write: Landlock ABI {found}")
    report.add("other processes", f"not to be read or traced: Landlock ABI {found}")
    if found < 3:
        report.miss("files that may be emptied", f"Landlock ABI {found} does not know truncation, ABI 3 does")
    if found >= 4:
        report.add("network", f"no TCP: Landlock ABI {found}")
    if found >= 6:
        report.add("other processes", f"no signals and no abstract sockets: Landlock ABI {found}")


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("process", ctypes.c_int)]


def _capabilities(report: _Report) -> None:
    with suppress(OSError):  # past the last one, or not this process's to drop
        for each in range(64):
            prctl(_DROP_BOUNDING, each)
    with suppress(OSError):  # before Linux 4.3 there are none
        prctl(_AMBIENT, _CLEAR_ALL)
    call("capset", ctypes.byref(_Header(_CAPABILITIES_VERSION, 0)), (ctypes.c_uint32 * 6)())
    report.add("privileges", "none, and none to gain")


def _calls(report: _Report) -> None:
    if not seccomp.known():
        report.miss("a filter of system calls", f"the numbers of this machine's calls are not known here, {_OPEN}")
        return
    try:
        seccomp.restrict()
    except OSError as error:
        report.miss("a filter of system calls", f"{error}, {_OPEN}")
        return
    report.add("network", "no sockets but local ones, and none to connect: seccomp")
    report.add("processes", "none may be started: seccomp")
    report.add("other processes", "not to be signalled, read or traced: seccomp")
