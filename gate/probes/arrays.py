"""Files of arrays, each a column with its first dimension the rows: .npz, .npy and .safetensors."""

from __future__ import annotations

import io
import json
import math
import zipfile
from typing import IO, TYPE_CHECKING, Any, Protocol

from gate.errors import ProbeError
from gate.probes.places import readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import pyarrow as pa

    from gate.probes.places import Place

# The types of safetensors that numpy has under a name; all others are refused by theirs.
_TENSORS = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U32", "U16", "U8", "BOOL")


class _Rows(Protocol):
    """The rows of an array, in order and once."""

    rows: int

    def read(self, rows: int) -> np.ndarray[Any, Any]:
        """The next ones."""


class Npz:
    """A .npz file: each array is a column; read piece by piece, never unpickled."""

    def __init__(self, place: Place) -> None:
        self._place = place
        with place.open() as stream, zipfile.ZipFile(stream) as archive:
            members = archive.namelist()
        strange = next((name for name in members if not name.endswith(".npy")), None)
        if strange is not None:
            raise ProbeError(f"{place}: the member {strange!r} is no array NAME.npy; write the file with numpy.savez")
        self.columns: tuple[str, ...] = tuple(name.removesuffix(".npy") for name in members)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        with readable(self._place.shown), self._place.open() as stream, zipfile.ZipFile(stream) as archive:
            arrays = {name: self._rows(archive, name) for name in names}
            yield from _batches(self._place, arrays, size)

    def _rows(self, archive: zipfile.ZipFile, name: str) -> _NpyRows:
        member = archive.getinfo(f"{name}.npy")
        return _NpyRows(f"{self._place}: array {name!r}", archive.open(member), member.file_size)


class Npy:
    """A .npy file: one array, under the name "features"."""

    columns: tuple[str, ...] = ("features",)

    def __init__(self, place: Place) -> None:
        self._place = place

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        with readable(self._place.shown), self._place.open() as stream:
            held = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            arrays = {name: _NpyRows(f"{self._place}", stream, held) for name in names}
            yield from _batches(self._place, arrays, size)


class Safetensors:
    """A .safetensors file on this machine: each tensor is a column."""

    def __init__(self, place: Place) -> None:
        if place.local is None:
            raise ProbeError(f"{place}: a .safetensors file is read on this machine only; copy it here, or use .npz")
        self._place = place
        with self._opened() as file:
            self.columns: tuple[str, ...] = tuple(file.keys())
        self._require_once()

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table."""
        del text
        with readable(self._place.shown), self._opened() as file:
            arrays = {name: _TensorRows(f"{self._place}: tensor {name!r}", file.get_slice(name)) for name in names}
            yield from _batches(self._place, arrays, size)

    def _require_once(self) -> None:
        """Refuse a header with a key twice, of which readers take one or the other."""
        with self._place.open() as stream:
            header = stream.read(int.from_bytes(stream.read(8), "little"))  # whose length was found to be right

        def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
            keys = [key for key, _ in pairs]
            if twice := next((key for key in keys if keys.count(key) > 1), None):
                raise ProbeError(
                    f"{self._place}: the header gives {twice!r} twice, so that either could be meant; write the file "
                    "again with names that differ"
                )
            return dict(pairs)

        json.loads(header, object_pairs_hook=once)

    def _opened(self) -> Any:  # noqa: ANN401 - the package has no types
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError as error:
            raise ProbeError(
                f"{self._place}: the package that reads .safetensors is not installed: pip install safetensors"
            ) from error
        try:
            return safe_open(self._place.path, framework="numpy")
        except SafetensorError as error:
            raise ProbeError(f"{self._place}: cannot be read: {error}; write the file again") from error


class _NpyRows:
    """The rows of one .npy stream.

    Args:
        where: For messages.
        stream: From its beginning.
        held: How many bytes it has.
    """

    def __init__(self, where: str, stream: IO[bytes], held: int) -> None:
        from numpy.lib import format as npy

        self._stream = stream
        header = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, self._dtype = header(stream)
        if self._dtype.hasobject:
            raise ProbeError(
                f"{where}: holds Python objects, which only unpickling could read; save numbers or strings"
            )
        if not shape or (fortran and len(shape) > 1) or min(shape) < 0:
            order = "Fortran" if fortran else "C"
            raise ProbeError(f"{where}: has shape {shape} in {order} order, expected rows first, in C order")
        declared, found = math.prod(shape) * self._dtype.itemsize, held - stream.tell()
        if declared > found:  # before as much memory is asked for
            raise ProbeError(
                f"{where}: declares the shape {shape} of {self._dtype}, which is {declared} bytes, and holds {found}: "
                "the file is cut off, or its header is wrong; write it again"
            )
        self.rows: int = shape[0]
        self._row_shape: tuple[int, ...] = shape[1:]

    def read(self, rows: int) -> np.ndarray[Any, Any]:
        import numpy as np

        size = rows * math.prod(self._row_shape) * self._dtype.itemsize
        content = self._stream.read(size)
        if len(content) != size:
            raise ValueError(f"{size} bytes expected, {len(content)} found: the file is cut off")
        return np.frombuffer(content, dtype=self._dtype).reshape(rows, *self._row_shape)


class _TensorRows:
    """The rows of one tensor."""

    def __init__(self, where: str, tensor: Any) -> None:  # noqa: ANN401 - the package has no types
        shape, kind = tensor.get_shape(), tensor.get_dtype()
        if kind not in _TENSORS:
            raise ProbeError(
                f"{where}: has the type {kind}, which has no digits that every library rounds alike; save it as float32"
            )
        if not shape:
            raise ProbeError(f"{where}: has no dimension, expected rows first")
        self.rows: int = shape[0]
        self._tensor = tensor
        self._start = 0

    def read(self, rows: int) -> np.ndarray[Any, Any]:
        start, self._start = self._start, self._start + rows
        found: np.ndarray[Any, Any] = self._tensor[start : self._start]
        return found


def _batches(place: Place, arrays: Mapping[str, _Rows], size: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    counts = {name: array.rows for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ProbeError(f"{place}: the arrays differ in their number of rows: {counts!r}")
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
