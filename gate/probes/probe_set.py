"""A probe set: the fixed rows that every version of a model is measured on."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gate.errors import ProbeError
from gate.probes import rows
from gate.probes.reading import Table, open_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import pyarrow as pa

_NEAREST = 20


@dataclass(frozen=True)
class Columns:
    """Which columns of the file mean what.

    Attributes:
        input: One column of numbers or lists (or an n-dimensional array), or several columns of numbers.
        label: Class of the row.
        group: Site, batch or speaker of a row.
        length: A number that describes the row (tokens, pixels).
        id: Unique name of the row; without it rows are named by their number in the file, counting from 0.
        cluster: Document, patient or user of a row: rows of one are not independent.
        sublabel: Subclass of the row, finer than its class.
        target: One column of numbers, or several.
        tags: Further columns, by which the rows are cut into slices.
    """

    input: str | tuple[str, ...]
    label: str | None = None
    group: str | None = None
    length: str | None = None
    id: str | None = None
    cluster: str | None = None
    sublabel: str | None = None
    target: str | tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of `input`, one or several."""
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of `target`: none, one or several."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target or ())

    @property
    def texts(self) -> frozenset[str]:
        """The columns that are texts, even where they look like numbers."""
        return frozenset((*self.named, *self.tags))

    @property
    def named(self) -> tuple[str, ...]:
        """The columns of texts that have a role, whatever the rows are cut by."""
        return tuple(filter(None, (self.label, self.group, self.id, self.cluster, self.sublabel)))

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read, once."""
        optional = (
            self.label,
            self.group,
            self.length,
            self.id,
            self.cluster,
            self.sublabel,
            *self.targets,
            *self.tags,
        )
        return tuple(dict.fromkeys((*self.inputs, *(name for name in optional if name is not None))))


@dataclass(frozen=True)
class ProbeBatch:
    """Some rows of a probe set.

    Attributes:
        inputs: (b, ...), float32 or int64; may be read-only.
        ids: b names, unique in the probe set.
        labels: b texts, None without such a column.
        groups: b texts, None without such a column.
        lengths: b finite numbers, None without such a column.
        fingerprints: (b,), int64; equal for equal inputs.
        clusters: b texts, None without such a column.
        sublabels: b texts, None without such a column.
        targets: (b, q), float64 and finite, None without such columns.
        tags: Column → b texts, of the columns that rows are cut by.
    """

    inputs: np.ndarray[Any, Any]
    ids: tuple[str, ...]
    labels: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    lengths: tuple[float, ...] | None
    fingerprints: np.ndarray[Any, Any]
    clusters: tuple[str, ...] | None = None
    sublabels: tuple[str, ...] | None = None
    targets: np.ndarray[Any, Any] | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def open_probe(uri: str, *, columns: Columns, shape: tuple[int, ...] | None = None) -> ProbeSet:
    """Open a probe set; its rows are read by `batches`.

    Args:
        uri: A .parquet, .csv, .npz or .npy file. The one array of a .npy file has the name "features".
        columns: Which columns mean what.
        shape: What the input of each row is reshaped to; None leaves it as the file has it.

    Raises:
        ProbeError: The file is missing or damaged, its format unknown, or a column is not in it.
    """
    if "://" in uri or uri.startswith(("runs:", "models:")):
        raise ProbeError(f"{uri!r}: probe sets are read from local files; other places are not supported yet")
    table = open_table(Path(uri))
    empty = [key for key, named in (("input", columns.inputs), ("target", columns.targets)) if not named]
    if "input" in empty or (columns.target is not None and empty):
        raise ProbeError(f"{uri}: columns.{empty[0]} names no column; there are: {', '.join(table.columns)}")
    for name in columns.all:
        _require_column(uri, name, table.columns)
    return ProbeSet(uri, table, columns, shape)


def _require_column(uri: str, name: str, present: tuple[str, ...]) -> None:
    if present.count(name) > 1:
        raise ProbeError(f"{uri}: {present.count(name)} columns have the name {name!r}, expected one; rename them")
    if name not in present:
        nearest = difflib.get_close_matches(name, present, n=_NEAREST, cutoff=0.0)
        listed = ", ".join(nearest) or "none"
        raise ProbeError(f"{uri}: there is no column {name!r}; of {len(present)} columns, nearest first: {listed}")


class ProbeSet:
    """Rows in a file, streamed; `rows` and `digest` are known after one complete pass.

    Attributes:
        uri: As it was asked for.
        columns: Which columns mean what.
        shape: What the input of each row is reshaped to, None for as it is.
    """

    def __init__(self, uri: str, table: Table, columns: Columns, shape: tuple[int, ...] | None) -> None:
        self.uri = uri
        self.columns = columns
        self.shape = shape
        self._table = table
        self._rows: int | None = None
        self._digest: str | None = None
        self._slices_digest: str | None = None

    @property
    def rows(self) -> int:
        """Number of rows, after a complete pass.

        Raises:
            ProbeError: No pass was completed.
        """
        if self._rows is None:
            raise ProbeError(f"{self.uri}: the number of rows is known after one complete pass over batches()")
        return self._rows

    @property
    def digest(self) -> str:
        """Content of all rows as "sha256:…", after a complete pass.

        It does not depend on the format, the compression or the order of the rows, but on every value that `columns`
        names, apart from those by which alone the rows are cut: the same rows have it under every policy. Without an
        id column the number of a row is its id, so that the order counts.

        Raises:
            ProbeError: No pass was completed.
        """
        if self._digest is None:
            raise ProbeError(f"{self.uri}: the digest is known after one complete pass over batches()")
        return self._digest

    @property
    def slices_digest(self) -> str | None:
        """The same with the columns by which alone the rows are cut; None where there are none."""
        return self._slices_digest

    def batches(self, size: int) -> Iterator[ProbeBatch]:
        """One pass over the rows, in the order of the file; memory stays at one batch and 40 bytes a row.

        Args:
            size: Rows in each batch but the last, at least 1.

        Raises:
            ProbeError: No row at all, an id twice, a missing input or value of another column, inputs of unequal size.
                A repeated id may be found only at the end of the pass.
        """
        if size < 1:
            raise ProbeError(f"{self.uri}: a batch of {size!r} rows was asked for, expected at least 1")
        digests, with_cuts = bytearray(), bytearray()
        seen = _SeenIds(self)
        shape = None
        for record in self._table.batches(self.columns.all, size, self.columns.texts):
            batch = self._batch(record, len(digests) // rows.DIGEST_BYTES, digests, with_cuts)
            shape = shape or batch.inputs.shape[1:]
            if batch.inputs.shape[1:] != shape:
                raise ProbeError(
                    f"{self.uri}: the input of row {batch.ids[0]!r} has shape {batch.inputs.shape[1:]}, "
                    f"that of the first row {shape}; every row needs as many values"
                )
            seen.add(batch.ids)
            yield batch
        if not digests:
            raise ProbeError(f"{self.uri}: the probe set holds no row, so nothing can be measured")
        seen.require_unique()
        self._rows = len(digests) // rows.DIGEST_BYTES
        self._digest = rows.total_digest(digests)
        self._slices_digest = rows.total_digest(with_cuts) if with_cuts else None

    def read_labels(self, size: int) -> set[str]:
        """Every class of the rows, from a pass over that column alone; none without it."""
        name = self.columns.label
        if name is None:
            return set()
        batches = self._table.batches((name,), size, self.columns.texts)
        return {
            text for record in batches for text in rows.texts(record.column(name), self._what("label", name), None, 0)
        }

    def read_tags(self, size: int) -> Iterator[dict[str, tuple[str, ...]]]:
        """Only the columns that the rows are cut by, in the order of the file, `size` rows at a time."""
        for record in self._table.batches(self.columns.tags, size, self.columns.texts):
            yield self._tags(record, None)

    def read_ids(self, size: int) -> Iterator[tuple[str, ...]]:
        """Only the ids, in the order of the file, `size` at a time."""
        name = str(self.columns.id)
        for record in self._table.batches((name,), size, self.columns.texts):
            yield rows.texts(record.column(name), self._what("id", name), None, 0)

    def _batch(self, record: pa.RecordBatch, start: int, digests: bytearray, with_cuts: bytearray) -> ProbeBatch:
        import numpy as np

        ids = self._ids(record, start)
        roles = ("label", "group", "cluster", "sublabel")
        labels, groups, clusters, sublabels = (self._texts(record, role, ids) for role in roles)
        lengths = self._numbers(record, "length", self.columns.length, ids) if self.columns.length else None
        targets = [self._numbers(record, "target", name, ids) for name in self.columns.targets]
        inputs = self._shaped(rows.canonical(self._values(record, ids)))
        hashed = rows.input_digests(inputs)
        tags = self._tags(record, ids)
        later: dict[str, Any] = {"cluster": clusters, "sublabel": sublabels}
        later |= {f"target{i}": each for i, each in enumerate(targets)}
        own = rows.row_digests(hashed, labels, groups, lengths, ids, **later)
        digests += own
        if cuts := {name: each for name, each in tags.items() if name not in self.columns.named}:
            with_cuts += rows.row_digests(own, **cuts)
        fingerprints = np.frombuffer(hashed, dtype="<i8")[::2].astype(np.int64)
        stacked = np.column_stack(targets) if targets else None
        return ProbeBatch(inputs, ids, labels, groups, lengths, fingerprints, clusters, sublabels, stacked, tags)

    def _ids(self, record: pa.RecordBatch, start: int) -> tuple[str, ...]:
        name = self.columns.id
        if name is None:
            return tuple(map(str, range(start, start + record.num_rows)))
        return rows.texts(record.column(name), self._what("id", name), None, start)

    def _texts(self, record: pa.RecordBatch, role: str, ids: tuple[str, ...]) -> tuple[str, ...] | None:
        name = getattr(self.columns, role)
        return None if name is None else rows.texts(record.column(name), self._what(role, name), ids, 0)

    def _tags(self, record: pa.RecordBatch, ids: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
        return {
            name: rows.texts(record.column(name), self._what("slices by", name), ids, 0) for name in self.columns.tags
        }

    def _numbers(self, record: pa.RecordBatch, role: str, name: str, ids: tuple[str, ...]) -> tuple[float, ...]:
        return rows.numbers(record.column(name), self._what(role, name), ids)

    def _values(self, record: pa.RecordBatch, ids: tuple[str, ...]) -> np.ndarray[Any, Any]:
        import numpy as np

        parts = {name: rows.dense(record.column(name), self._what("input", name), ids) for name in self.columns.inputs}
        if isinstance(self.columns.input, str):
            return parts[self.columns.input]
        for name, part in parts.items():
            if part.ndim != 1:
                raise ProbeError(f"{self._what('input', name)}: holds lists; several input columns must hold numbers")
        return np.column_stack(list(parts.values()))

    def _shaped(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        width = math.prod(values.shape[1:])
        if not width:
            raise ProbeError(
                f"{self.uri}: the input of a row has shape {values.shape[1:]}, expected at least one value"
            )
        if self.shape is None:
            # A single number column is one feature.
            return values if values.ndim > 1 else values[:, None]
        if width != math.prod(self.shape):
            raise ProbeError(
                f"{self.uri}: the input of a row holds {width} values, and the shape {self.shape} needs "
                f"{math.prod(self.shape)}; check probe.shape and columns.input"
            )
        return values.reshape(len(values), *self.shape)

    def _what(self, role: str, name: str) -> str:
        return f"{self.uri}: {role} {name!r}"


class _SeenIds:
    """Finds an id that occurs twice, at 8 bytes a row: by hash first, then by reading the suspects again."""

    def __init__(self, probe: ProbeSet) -> None:
        self._probe = probe
        self._hashes: list[np.ndarray[Any, Any]] = []
        self._active = probe.columns.id is not None

    def add(self, ids: tuple[str, ...]) -> None:
        if not self._active:
            return
        import numpy as np

        self._hashes.append(np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids)))
        if len(set(ids)) < len(ids):
            self._refuse(next(name for position, name in enumerate(ids) if name in ids[:position]))

    def require_unique(self) -> None:
        if not self._active:
            return
        import numpy as np

        ordered = np.sort(np.concatenate(self._hashes))
        suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        known: set[str] = set()
        for ids in self._probe.read_ids(len(self._hashes[0])) if suspects else ():
            for name in ids:
                if name in known:
                    self._refuse(name)
                if hash(name) in suspects:
                    known.add(name)

    def _refuse(self, name: str) -> None:
        raise ProbeError(f"{self._probe.uri}: id {name!r} occurs more than once; ids must be unique")
