"""Rows as a stream of record batches of equal size, whatever the pieces that a format comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa


class Table(Protocol):
    """Named columns whose rows can be streamed any number of times."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the file."""

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """Rows of the named columns, `size` at a time, fewer only in the last batch.

        Columns in `text` are wanted as they are written, where the format has no types of its own.
        """


def rebatch(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `size`, the last one shorter."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        while rows >= size:
            joined = pa.concat_batches(waiting) if len(waiting) > 1 else waiting[0]
            yield joined.slice(0, size)
            rows -= size
            waiting = [joined.slice(size)] if rows else []
    if rows:
        yield pa.concat_batches(waiting)
