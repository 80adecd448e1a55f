"""Probe sets of one's own: the rows of any readable one, or some of them, in one normalised file with its digest."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gate.errors import UsageError
from gate.probes.probe_set import open_probe

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from pathlib import Path

    from gate.probes.probe_set import Columns, ProbeSet

_ROWS_AT_ONCE = 1024
_ID = "id"


@dataclass(frozen=True)
class Built:
    """A probe set that was written.

    Attributes:
        probe: It, after a complete pass.
        columns: Which of its columns mean what.
    """

    probe: ProbeSet
    columns: Columns


def build(source: ProbeSet, path: Path, *, rows: int | None = None, seed: int = 0) -> Built:
    """Write the columns that have a meaning, and an id for each row, to a Parquet file.

    Args:
        source: Any probe set without faults.
        path: A .parquet file that is not there yet.
        rows: How many of the rows: as large a share of each class, and in it those whose hashed ids are lowest, so that
            the same rows are taken whatever their order. None takes all.
        seed: Of the hash.

    Raises:
        UsageError: The file is there, is none of Parquet, or there are fewer rows.
        ProbeError: The source has a fault.
    """
    if path.suffix != ".parquet" or path.exists():
        what = "is there already; remove it, or" if path.exists() else "is no .parquet file;"
        raise UsageError(f"{str(path)!r} {what} name another file")
    ids, strata = _strata(source)
    kept = _chosen(ids, strata, len(ids) if rows is None else rows, seed)
    columns = _write(source, path, ids, kept)
    probe = open_probe(str(path), columns=columns, shape=source.shape, transform=source.transform)
    for _ in probe.batches(_ROWS_AT_ONCE, pixels=False):
        pass
    return Built(probe, columns)


def _strata(source: ProbeSet) -> tuple[list[str], list[Hashable]]:
    """The id of every row, and what it is sampled within: its split and its class."""
    ids: list[str] = []
    strata: list[Hashable] = []
    for batch in source.batches(_ROWS_AT_ONCE, pixels=False):
        none = (None,) * len(batch.ids)
        ids += batch.ids
        strata += zip(getattr(batch, "splits", None) or none, batch.labels or none, strict=True)
    return ids, strata


def _chosen(ids: Sequence[str], strata: Sequence[Hashable], rows: int, seed: int) -> set[int]:
    if not 1 <= rows <= len(ids):
        raise UsageError(f"--rows is {rows}, expected 1 to {len(ids)}, which is how many there are")
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, stratum in enumerate(strata):
        members[stratum].append(row)
    wanted = _shares({stratum: len(each) for stratum, each in members.items()}, rows)
    return {
        row
        for stratum, each in members.items()
        for row in sorted(each, key=lambda row: _hash(ids[row], seed))[: wanted[stratum]]
    }


def _shares(counts: Mapping[Hashable, int], rows: int) -> dict[Hashable, int]:
    """How many rows of each stratum: the largest remainders are rounded up (Hamilton), ties by name."""
    total = sum(counts.values())
    wanted = {stratum: count * rows // total for stratum, count in counts.items()}
    left = sorted(counts, key=lambda stratum: (-(counts[stratum] * rows % total), str(stratum)))
    for stratum in left[: rows - sum(wanted.values())]:
        wanted[stratum] += 1
    return wanted


def _hash(name: str, seed: int) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16, key=str(seed).encode()).digest()


def _write(source: ProbeSet, path: Path, ids: Sequence[str], kept: set[int]) -> Columns:
    """The rows that are kept, in their order; without an id column they get one, with the numbers they had."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = source.columns
    name = own.id or next(name for name in (_ID, *(f"{_ID}{n}" for n in range(99))) if name not in own.all)
    path.parent.mkdir(parents=True, exist_ok=True)
    start, writer = 0, None
    try:
        for record in source.table.batches(own.all, _ROWS_AT_ONCE, source.texts):
            here = [row for row in range(record.num_rows) if start + row in kept]
            table = pa.Table.from_batches([record.take(pa.array(here, pa.int64()))])
            if own.id is None:
                table = table.append_column(name, pa.array([ids[start + row] for row in here], pa.string()))
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            start += record.num_rows
    finally:
        if writer is not None:
            writer.close()
    return replace(own, id=name)
