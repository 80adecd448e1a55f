"""A filter of system calls: no new processes or programs, no sockets to outside, no reach into other processes.

Sources: linux/filter.h, linux/seccomp.h; the numbers are those of asm/unistd_64.h (x86_64) and asm-generic (aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

from gate.isolation.kernel import call

_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_THREAD = 0x00010000
_LOCAL_SOCKETS = 1

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name: number on x86_64, on aarch64; None where that has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # other processes and programs
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    # parts of the kernel that a model has no business with
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "personality": (135, 92), "syslog": (103, 116), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "acct": (163, 89),
    "quotactl": (179, 60), "swapon": (167, 224), "swapoff": (168, 225), "iopl": (172, None), "ioperm": (173, None),
    # what Landlock leaves open: sockets that have a path, owners and attributes of files
    "connect": (42, 203), "sendmsg": (46, 211), "sendmmsg": (307, 269), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
# Absent, as in an older kernel: the C library and others know what to do then. The last five would be memory that no
# limit counts.
_ABSENT = {
    "clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "msgget": (68, 186), "mq_open": (240, 180),
}  # fmt: skip
# Do nothing: whoever copies a file copies its mode and its times as well, and fails where that fails.
_IGNORED = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
_TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
_SOCKETS = {"socket": (41, 198), "socketpair": (53, 199)}
_CLONE, _SEND_TO, _LIMITS = (56, 220), (44, 206), (302, 261)


class Step(NamedTuple):
    """One instruction: what to do, how far to jump if it holds and if not, and with which value."""

    code: int
    then: int
    otherwise: int
    value: int


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def known() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in _MACHINES and struct.calcsize("P") == 8


def restrict() -> None:
    """Filter the calls of this thread and of all threads that it starts, for good.

    Raises:
        OSError: The kernel refuses.
    """
    steps = program(platform.machine(), os.getpid())
    encoded = b"".join(struct.pack("=HBBI", *step) for step in steps)
    call("prctl", _SET_SECCOMP, _MODE_FILTER, ctypes.byref(_Program(len(steps), encoded)))


def program(machine: str, process: int) -> list[Step]:
    """The filter.

    Args:
        machine: "x86_64" or "aarch64".
        process: Number of the process that it is for.
    """
    architecture, column = _MACHINES[machine]
    steps = [Step(_LOAD, 0, 0, _ARCHITECTURE), Step(_EQUAL, 1, 0, architecture), _refuse(errno.EPERM)]
    steps += [Step(_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        steps += [Step(_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS)]
    for calls, number in ((_DENIED, errno.EPERM), (_ABSENT, errno.ENOSYS), (_IGNORED, 0)):
        for each in calls.values():
            steps += _on(each[column], [_refuse(number)])
    for each in _TO_ITSELF.values():
        steps += _on(each[column], [_argument(0), Step(_EQUAL, 1, 0, process), _refuse(errno.EPERM), _allow()])
    for each in _SOCKETS.values():
        steps += _on(each[column], [_argument(0), Step(_EQUAL, 1, 0, _LOCAL_SOCKETS), _refuse(errno.EPERM), _allow()])
    threads_only = [_argument(0), Step(_ANY_BIT, 1, 0, _THREAD), _refuse(errno.EPERM), _allow()]
    no_address = [_argument(4), Step(_EQUAL, 0, 2, 0), _argument(4, high=True), Step(_EQUAL, 1, 0, 0)]
    own_limits = [_argument(0), Step(_EQUAL, 2, 0, 0), Step(_EQUAL, 1, 0, process)]
    steps += _on(_CLONE[column], threads_only)
    steps += _on(_SEND_TO[column], [*no_address, _refuse(errno.EPERM), _allow()])
    steps += _on(_LIMITS[column], [*own_limits, _refuse(errno.EPERM), _allow()])
    return [*steps, _allow()]


def _on(number: int | None, steps: list[Step]) -> list[Step]:
    return [] if number is None else [Step(_EQUAL, 0, len(steps), number), *steps]


def _argument(index: int, *, high: bool = False) -> Step:
    """Half of an argument; both machines put the low half first."""
    return Step(_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4 * high)


def _refuse(number: int) -> Step:
    return Step(_RETURN, 0, 0, _ERROR | number)


def _allow() -> Step:
    return Step(_RETURN, 0, 0, _ALLOW)
