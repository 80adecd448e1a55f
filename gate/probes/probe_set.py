"""A probe set: the fixed rows that every version of a model is measured on."""

from __future__ import annotations

import difflib
from itertools import chain, repeat
from typing import TYPE_CHECKING

from gate.errors import ProbeError
from gate.probes import digests, rows
from gate.probes.batch import ProbeBatch
from gate.probes.batches import Reader
from gate.probes.columns import Columns
from gate.probes.places import Place, find, masked
from gate.probes.reading import Table, open_table
from gate.probes.transforms import Transform
from gate.probes.unique import SeenIds
from gate.probes.views import row_shape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Columns", "ProbeBatch", "ProbeSet", "Transform", "open_probe"]

_NEAREST = 20


def open_probe(
    uri: str,
    *,
    columns: Columns,
    shape: tuple[int, ...] | None = None,
    transform: Transform | None = None,
    at: Path | None = None,
) -> ProbeSet:
    """Open a probe set; its rows are read by `batches`.

    Args:
        uri: A .parquet, .csv, .jsonl, .npz, .npy or .safetensors file, or a folder of pictures: a path, or a URL that
            fsspec reads. The one array of a .npy file has the name "features".
        columns: Which columns mean what.
        shape: What the input of each row is reshaped to; None leaves it as the file has it.
        transform: What is done to the pictures of the input; None leaves them as they are.
        at: Where it lies on this machine, if it was fetched from a place that only `uri` names.

    Raises:
        ProbeError: The file is missing or damaged, its format unknown, or a column is not in it.
    """
    shown = masked(uri)
    if at is None and uri.startswith(("runs:", "models:", "dataset:")):
        raise ProbeError(f"{shown}: is a place of MLflow; fetch its files first, as `open_rows` does")
    table = open_table(find(uri) if at is None else Place(shown, str(at)))
    _require_columns(shown, columns, table.columns)
    return ProbeSet(shown, table, columns, shape, transform)


def _require_columns(uri: str, columns: Columns, present: tuple[str, ...]) -> None:
    named = {"input": columns.inputs, "target": columns.targets, "pair": columns.pairs}
    for key, names in named.items():
        if not names and getattr(columns, key) is not None:
            raise ProbeError(f"{uri}: columns.{key} names no column; there are: {', '.join(present)}")
    if columns.pair is not None and len(columns.pairs) != len(columns.inputs):
        raise ProbeError(
            f"{uri}: columns.pair names {len(columns.pairs)} columns and columns.input {len(columns.inputs)}; name one "
            "for each, in the same order"
        )
    for name in columns.all:
        _require_column(uri, name, present)


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
        uri: As it was asked for, with passwords masked.
        columns: Which columns mean what.
        shape: What the input of each row is reshaped to, None for as it is.
        transform: What is done to the pictures of the input, None for nothing.
        texts: The columns that are read as texts; what the model is shown comes in the type of the file, also where
            the same column names the rows.
    """

    def __init__(
        self,
        uri: str,
        table: Table,
        columns: Columns,
        shape: tuple[int, ...] | None = None,
        transform: Transform | None = None,
    ) -> None:
        self.uri = uri
        self.columns = columns
        self.shape = shape
        self.transform = transform
        self._table = table
        self._reader = Reader(uri, columns, shape, transform)
        self.texts = columns.texts - {*columns.inputs, *columns.pairs}
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
        id column the number of a row is its id, so that the order counts. Of a picture its file counts, and beside it
        the transform.

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

    @property
    def table(self) -> Table:
        """The file, for whoever reads its rows whatever is wrong with them."""
        return self._table

    def batches(self, size: int, *, pixels: bool = True) -> Iterator[ProbeBatch]:
        """One pass over the rows, in the order of the file; memory stays at one batch and 40 bytes a row.

        Args:
            size: Rows in each batch but the last, at least 1.
            pixels: Whether those of pictures are wanted; without, each picture is read and let go before the next one,
                so that a batch of large ones needs the memory of one.

        Raises:
            ProbeError: No row at all, an id twice, a missing input or value of another column, inputs of unequal size.
                A repeated id may be found only at the end of the pass.
        """
        if size < 1:
            raise ProbeError(f"{self.uri}: a batch of {size!r} rows was asked for, expected at least 1")
        own, with_cuts = bytearray(), bytearray()
        seen = None if self.columns.id is None else SeenIds(self.uri, self.read_ids)
        shape: object = None
        reader = self._reader if pixels else Reader(self.uri, self.columns, self.shape, self.transform, keep=False)
        for record in self._table.batches(self.columns.all, size, self.texts):
            batch, digested = reader.batch(record, len(own) // digests.DIGEST_BYTES)
            shape = shape if own else row_shape(batch.inputs)
            self._require_shape(batch, shape)
            own += digested.own
            with_cuts += digested.with_cuts
            if seen is not None:
                seen.add(batch.ids)
            yield batch
        if not own:
            raise ProbeError(f"{self.uri}: the probe set holds no row, so nothing can be measured")
        if seen is not None:
            seen.require_unique()
        self._rows = len(own) // digests.DIGEST_BYTES
        self._digest = digests.total_digest(own)
        self._slices_digest = digests.total_digest(with_cuts) if with_cuts else None

    def read_labels(self, size: int) -> set[str]:
        """Every class of the rows to measure, from a pass over their labels and splits alone; none without labels."""
        label, split = self.columns.label, self.columns.split
        if label is None:
            return set()
        labels = chain.from_iterable(self._read("label", label, size))
        splits = repeat("probe") if split is None else chain.from_iterable(self._read("split", split, size))
        return {name for name, part in zip(labels, splits, strict=False) if part == "probe"}

    def read_tags(self, size: int) -> Iterator[dict[str, tuple[str, ...]]]:
        """Only the columns that the rows are cut by, in the order of the file, `size` rows at a time."""
        for record in self._table.batches(self.columns.tags, size, self.texts):
            yield self._reader.tags(record, None)

    def read_ids(self, size: int) -> Iterator[tuple[str, ...]]:
        """Only the ids, in the order of the file, `size` at a time."""
        return self._read("id", str(self.columns.id), size)

    def _read(self, role: str, name: str, size: int) -> Iterator[tuple[str, ...]]:
        for record in self._table.batches((name,), size, self.texts):
            yield rows.texts(record.column(name), f"{self.uri}: {role} {name!r}", None, 0)

    def _require_shape(self, batch: ProbeBatch, first: object) -> None:
        found = row_shape(batch.inputs)
        if found != first:
            raise ProbeError(
                f"{self.uri}: the input of row {batch.ids[0]!r} has shape {found}, that of the first row {first}; "
                "every row needs as many values"
            )
