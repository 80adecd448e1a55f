"""One process: batches are folded as they come, so that one batch and one statistic are in memory."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gate.geometry.statistics import Batch, Collection, Statistic


_M_MMAP_THRESHOLD = -3  # glibc, malloc.h


def fold(batches: Iterable[dict[str, Batch]], kinds: Sequence[type[Statistic]]) -> dict[str, Collection]:
    """Statistics of each layer.

    Args:
        batches: Layer name → the rows of one batch.
        kinds: The statistics to keep.

    Returns:
        Layer name → its statistics; empty when there was no batch.

    Raises:
        MetricError: Batches of one layer differ in dimension.
    """
    from gate.geometry.statistics import Collection

    _return_large_blocks()
    folded: dict[str, Collection] = {}
    for batch in batches:
        for name, rows in batch.items():
            part = Collection.of(rows, kinds)
            folded[name] = folded[name].merge(part) if name in folded else part
    return folded


def _return_large_blocks() -> None:
    """Has glibc give back at once what is freed in blocks of a megabyte and more.

    By default it keeps them in a heap that fragments by chance, and memory grows with the length of the stream.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has another malloc
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, 1 << 20)
