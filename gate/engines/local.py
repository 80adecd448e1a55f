"""One process: batches are folded as they come, so that one batch and one statistic are in memory."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from gate.geometry.statistics import Batch, Collection, Statistic

Part = TypeVar("Part", bound="Hashable")

_M_MMAP_THRESHOLD = -3  # glibc, malloc.h


def fold(
    batches: Iterable[Mapping[Part, Batch]], kinds: Callable[[Part], Sequence[type[Statistic]]]
) -> dict[Part, Collection]:
    """Statistics of each part: a layer of a model, or a slice of its rows.

    Args:
        batches: Part → its rows of one batch.
        kinds: The statistics to keep of a part.

    Returns:
        Part → its statistics; empty when there was no batch.

    Raises:
        MetricError: Batches of one part differ in dimension.
    """
    from gate.geometry.statistics import Collection

    _return_large_blocks()
    folded: dict[Part, Collection] = {}
    wanted: dict[Part, Sequence[type[Statistic]]] = {}
    for batch in batches:
        for part, rows in batch.items():
            if part not in wanted:
                wanted[part] = kinds(part)
            found = Collection.of(rows, wanted[part])
            folded[part] = folded[part].merge(found) if part in folded else found
    return folded


def _return_large_blocks() -> None:
    """Has glibc give back at once what is freed in blocks of a megabyte and more.

    By default it keeps them in a heap that fragments by chance, and memory grows with the length of the stream.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has another malloc
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, 1 << 20)
