"""The few calls to the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: object) -> int:
    """What a function of the C library returns.

    Args:
        function: "prctl", "unshare", "capset" or "syscall".
        arguments: Whole numbers become longs; whatever ctypes takes.

    Raises:
        OSError: It returned -1, or the C library has no such function.
    """
    try:
        called = getattr(_LIBC, function)
    except AttributeError:
        raise OSError(f"the C library has no {function}") from None
    called.restype = ctypes.c_long
    result = int(called(*(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, first: int = 0, second: object = 0) -> int:
    """Set something about this process; the options are those of linux/prctl.h.

    Raises:
        OSError: The kernel refuses.
    """
    return call("prctl", option, first, second, 0, 0)
