"""Files of rows with columns: Parquet, CSV, and JSON with one object a line."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from gate.probes.places import readable
from gate.probes.streams import rebatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from pyarrow import csv, json

    from gate.probes.places import Place

_CSV_BLOCK = 4 << 20
_JSON_BLOCK = 16 << 20  # at least the longest line
_BUFFER = 1 << 20
_REMOTE_BUFFER = 4 << 20


class Parquet:
    """A .parquet file; row groups of any size are read piece by piece, and only the columns that are wanted."""

    def __init__(self, place: Place) -> None:
        import pyarrow.parquet as pq

        self._place = place
        with place.open(buffered=True) as stream:
            self.columns: tuple[str, ...] = tuple(pq.read_schema(stream).names)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        import pyarrow.parquet as pq

        buffer = _REMOTE_BUFFER if self._place.local is None else _BUFFER
        with (
            readable(self._place.shown),
            self._place.open(buffered=True) as stream,
            # Pre-buffering would hold a whole row group, and writers make row groups of a million rows.
            pq.ParquetFile(self._place.local or stream, buffer_size=buffer, pre_buffer=False) as file,
        ):
            yield from rebatch(file.iter_batches(batch_size=size, columns=list(names), use_threads=False), size)


class Csv:
    """A .csv file with a header; an empty field is a missing value, and types are those of the first block."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._written: frozenset[str] = frozenset()
        with _opened(place) as stream, self._reader(stream, (), frozenset()) as reader:
            fields = list(reader.schema)
        self.columns: tuple[str, ...] = tuple(field.name for field in fields)
        # A text that looks like a date is one, and bytes are a text with a fault, which is found as one.
        self._written = frozenset(field.name for field in fields if _is_written(field.type))

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        with readable(self._place.shown), _opened(self._place) as stream, self._reader(stream, names, text) as reader:
            yield from rebatch(reader, size)

    def _reader(self, stream: object, names: tuple[str, ...], text: frozenset[str]) -> csv.CSVStreamingReader:
        import pyarrow as pa
        from pyarrow import csv

        convert = csv.ConvertOptions(
            include_columns=list(names),
            column_types=dict.fromkeys(text | self._written, pa.string()),
            null_values=[""],
        )
        return csv.open_csv(
            stream,
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=convert,
        )


class JsonLines:
    """A .jsonl file: one object a line; a field that is left out is missing, types are those of the first block."""

    def __init__(self, place: Place) -> None:
        self._place = place
        with _opened(place) as stream, self._reader(stream, None) as reader:
            self._schema = reader.schema
        self.columns: tuple[str, ...] = tuple(self._schema.names)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text  # in JSON a text is a text, and a number has one spelling
        import pyarrow as pa

        fields = [self._schema.field(name) for name in names]
        wanted = pa.schema([pa.field(field.name, _as_written(field.type)) for field in fields])
        with readable(self._place.shown), _opened(self._place) as stream, self._reader(stream, wanted) as reader:
            yield from rebatch(reader, size)

    def _reader(self, stream: object, schema: pa.Schema | None) -> json.JSONStreamingReader:
        from pyarrow import json

        others = "infer" if schema is None else "ignore"
        return json.open_json(
            stream,
            read_options=json.ReadOptions(block_size=_JSON_BLOCK),
            parse_options=json.ParseOptions(
                explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior=others
            ),
        )


def _opened(place: Place) -> IO[bytes] | pa.NativeFile:
    """A stream whose reader has threads of its own: where it can, it needs no Python, which may end before they do."""
    import pyarrow as pa

    return place.open() if place.local is None else pa.OSFile(str(place.local))


def _is_written(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_temporal(kind) or pa.types.is_binary(kind))


def _as_written(kind: pa.DataType) -> pa.DataType:
    """The same with texts in the place of dates, which no line of JSON holds."""
    import pyarrow as pa

    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _as_written(field.type)) for field in kind])
    return kind
