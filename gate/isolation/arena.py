"""Memory that judge and worker share.

The judge makes it, fixes its size and seals it, so that no worker can take a page away while the judge reads it.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from gate.isolation.channel import MessageError

MOST_BYTES = 4 << 30
ALIGNMENT = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def made(size: int) -> tuple[mmap.mmap, int]:
    """New memory of at least this many bytes, and the file to hand to the worker; close that afterwards.

    Raises:
        MessageError: More bytes than may be shared.
    """
    if size > MOST_BYTES:
        raise MessageError(f"{size} bytes for one batch, expected at most {MOST_BYTES}; lower batch_size")
    file = os.memfd_create("gate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(file, max(mmap.PAGESIZE, size))
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        return mapped(file), file
    except BaseException:
        os.close(file)
        raise


def mapped(file: int) -> mmap.mmap:
    """The memory behind a file; the file may be closed then."""
    return mmap.mmap(file, os.fstat(file).st_size)


def aligned(offset: int) -> int:
    """The next place where an array may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def grown(wanted: int, present: int) -> int:
    """Size of the next memory, so that a model whose batches grow asks seldom."""
    return max(wanted, min(2 * present, MOST_BYTES))
