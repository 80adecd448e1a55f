"""One process: batches are folded as they come, so that some rows and one statistic of each part are in memory."""

from __future__ import annotations

import ctypes
import sys
from collections import defaultdict
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from gate.geometry.statistics import Batch, Codes, Collection, Split, Statistic

Part = TypeVar("Part", bound="Hashable")

_VALUES_AT_ONCE = 1 << 22  # of features: 16 MB in single precision
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
    wanted = cache(kinds)
    folded: dict[Part, Collection] = {}
    for gathered in _gathered(batches):
        for (part, _), rows in gathered.items():
            found = Collection.of(rows, wanted(part))
            folded[part] = folded[part].merge(found) if part in folded else found
    return folded


def _gathered(batches: Iterable[Mapping[Part, Batch]]) -> Iterator[dict[tuple[Part, Split], Batch]]:
    """Several batches as one, so that a slice of few rows a batch does not cost a pass for each of them."""
    waiting: dict[tuple[Part, Split], list[Batch]] = defaultdict(list)
    held = 0
    for batch in batches:
        for part, rows in batch.items():
            waiting[part, rows.split].append(rows)
            held += rows.features.numel() + sum(_size(column) for column in rows.columns.values())
        if held >= _VALUES_AT_ONCE:
            yield {key: _joined(rows) for key, rows in waiting.items()}
            waiting.clear()
            held = 0
    yield {key: _joined(rows) for key, rows in waiting.items()}


def _size(column: Codes | Tensor) -> int:
    from gate.geometry.statistics import Codes

    return (column.values if isinstance(column, Codes) else column).numel()


def _joined(batches: Sequence[Batch]) -> Batch:
    """All rows below each other; halves of halves, so that each row is copied a few times only."""
    if len(batches) == 1:
        return batches[0]
    half = len(batches) // 2
    return _joined(batches[:half]).join(_joined(batches[half:]))


def _return_large_blocks() -> None:
    """Has glibc give back at once what is freed in blocks of a megabyte and more.

    By default it keeps them in a heap that fragments by chance, and memory grows with the length of the stream.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has another malloc
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, 1 << 20)
