"""Files of rows as a stream of Arrow record batches of equal size, whatever the format."""

from __future__ import annotations

import math
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from gate.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

_CSV_BLOCK = 4 << 20
_PARQUET_BUFFER = 1 << 20


class Table(Protocol):
    """A file of named columns whose rows can be streamed any number of times."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the file."""

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """Rows of the named columns, `size` at a time, fewer only in the last batch.

        Columns in `text` are wanted as they are written, where the format has no types of its own.
        """


def open_table(path: Path) -> Table:
    """Open a file by its suffix.

    Args:
        path: A .parquet, .csv, .npz or .npy file. The one array of a .npy file has the name "features".

    Raises:
        ProbeError: There is no such file, its format is unknown, or it is damaged.
    """
    if path.is_dir():
        raise ProbeError(f"{path}: is a folder, expected one file ({', '.join(_FORMATS)})")
    if not path.is_file():
        where = "" if path.is_absolute() else f" in the working folder, {Path.cwd()}"
        raise ProbeError(f"{path}: there is no such file{where}; check probe.uri")
    reader = _FORMATS.get(path.suffix.lower())
    if reader is None:
        raise ProbeError(f"{path}: the suffix is {path.suffix!r}, expected one of {', '.join(_FORMATS)}")
    with _readable(path):
        return reader(path)


class Parquet:
    """A .parquet file; row groups of any size are read piece by piece."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self.columns: tuple[str, ...] = tuple(pq.read_schema(path).names)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        import pyarrow.parquet as pq

        with (
            _readable(self._path),
            # Pre-buffering would hold a whole row group, and writers make row groups of a million rows.
            pq.ParquetFile(self._path, buffer_size=_PARQUET_BUFFER, pre_buffer=False) as file,
        ):
            yield from _rebatch(file.iter_batches(batch_size=size, columns=list(names), use_threads=False), size)


class Csv:
    """A .csv file with a header; an empty field is a missing value, and types are those of the first block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open((), frozenset()) as stream:
            self.columns: tuple[str, ...] = tuple(stream.schema.names)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        with _readable(self._path), self._open(names, text) as stream:
            yield from _rebatch(stream, size)

    def _open(self, names: tuple[str, ...], text: frozenset[str]) -> csv.CSVStreamingReader:
        import pyarrow as pa
        from pyarrow import csv

        convert = csv.ConvertOptions(
            include_columns=list(names), column_types=dict.fromkeys(text, pa.string()), null_values=[""]
        )
        return csv.open_csv(self._path, read_options=csv.ReadOptions(block_size=_CSV_BLOCK), convert_options=convert)


class Npz:
    """A .npz file: each array is a column, its first dimension the rows; read piece by piece, never unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
        strange = next((name for name in members if not name.endswith(".npy")), None)
        if strange is not None:
            raise ProbeError(f"{path}: the member {strange!r} is no array NAME.npy; write the file with numpy.savez")
        self.columns: tuple[str, ...] = tuple(name.removesuffix(".npy") for name in members)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        with _readable(self._path), zipfile.ZipFile(self._path) as archive:
            arrays = {name: _NpyStream(f"{self._path}: array {name!r}", archive.open(f"{name}.npy")) for name in names}
            yield from _npy_batches(self._path, arrays, size)


class Npy:
    """A .npy file: one array, under the name "features"."""

    columns: tuple[str, ...] = ("features",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        with _readable(self._path), self._path.open("rb") as stream:
            arrays = {name: _NpyStream(f"{self._path}", stream) for name in names}
            yield from _npy_batches(self._path, arrays, size)


class _NpyStream:
    """The rows of one .npy stream, in order and once."""

    def __init__(self, where: str, stream: IO[bytes]) -> None:
        from numpy.lib import format as npy

        self._stream = stream
        header = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, self._dtype = header(stream)
        if self._dtype.hasobject:
            raise ProbeError(
                f"{where}: holds Python objects, which only unpickling could read; save numbers or strings"
            )
        if not shape or (fortran and len(shape) > 1):
            order = "Fortran" if fortran else "C"
            raise ProbeError(f"{where}: has shape {shape} in {order} order, expected rows first, in C order")
        self.rows: int = shape[0]
        self._row_shape: tuple[int, ...] = shape[1:]

    def read(self, rows: int) -> np.ndarray[Any, Any]:
        import numpy as np

        size = rows * math.prod(self._row_shape) * self._dtype.itemsize
        content = self._stream.read(size)
        if len(content) != size:
            raise ValueError(f"{size} bytes expected, {len(content)} found: the file is cut off")
        return np.frombuffer(content, dtype=self._dtype).reshape(rows, *self._row_shape)


_FORMATS: dict[str, type[Parquet | Csv | Npz | Npy]] = {
    ".parquet": Parquet,
    ".csv": Csv,
    ".npz": Npz,
    ".npy": Npy,
}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Damage in a file becomes a ProbeError that names it; what the caller of a stream raises passes unchanged."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ProbeError(f"{path}: cannot be read: {reason}") from error


def _rebatch(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
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


def _npy_batches(path: Path, arrays: dict[str, _NpyStream], size: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    counts = {name: array.rows for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ProbeError(f"{path}: the arrays differ in their number of rows: {counts!r}")
    total = next(iter(counts.values()))
    for start in range(0, total, size):
        rows = min(size, total - start)
        yield pa.record_batch({name: _arrow(array.read(rows)) for name, array in arrays.items()})


def _arrow(values: np.ndarray[Any, Any]) -> pa.Array:
    """An n-dimensional array as nested lists of fixed size."""
    import pyarrow as pa

    nested = pa.array(values.reshape(-1))
    for width in reversed(values.shape[1:]):
        nested = pa.FixedSizeListArray.from_arrays(nested, width)
    return nested
