"""One column of inputs, whatever is wrong with it: how many values each row has, which are missing or not finite."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gate.probes.pictures import are_pictures
from gate.probes.rows import are_texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_DIGEST_BYTES = 8


@dataclass(frozen=True)
class Cells:
    """What is known of b inputs.

    Attributes:
        missing: (b,), number of missing values; 1 where the whole input is.
        nonfinite: (b,), number of values that float32 holds as NaN or infinite.
        width: (b,), number of values; -1 of a text or a picture, which may be of any size.
        digests: (b,), int64, equal for equal inputs.
    """

    missing: Array
    nonfinite: Array
    width: Array
    digests: Array


def cells_of(column: pa.Array) -> Cells | None:
    """The facts of a column; None where a model can be shown nothing of its type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        return cells_of(column.dictionary_decode())
    if pa.types.is_struct(kind):
        # Of a picture its file counts, whatever it is called; what another struct holds only the reader refuses.
        others = (None if value is None else str(value) for value in column.to_pylist())
        return cells_of(pc.struct_field(column, "bytes") if are_pictures(kind) else pa.array(others, pa.string()))
    if are_texts(kind) or are_pictures(kind):
        return _of_any_size(column)
    return _of_numbers(column)


def _of_any_size(column: pa.Array) -> Cells:
    import numpy as np
    import pyarrow.compute as pc

    contents = (each.as_py() or b"" for each in column)  # one after the other, as pictures are large
    digests = _digests(each.encode() if isinstance(each, str) else each for each in contents)
    empty = pc.equal(pc.binary_length(column).fill_null(0), 0)
    missing = empty.to_numpy(zero_copy_only=False).astype(np.int64)
    return Cells(missing, np.zeros_like(missing), np.full_like(missing, -1), digests)


def _of_numbers(column: pa.Array) -> Cells | None:
    """Numbers, or lists of them at any depth and of any length."""
    import numpy as np

    ends = np.arange(len(column) + 1)  # of each row among the values of the level that is looked at
    missing = np.zeros(len(column), dtype=np.int64)
    is_one = not _is_list(column.type)
    while _is_list(column.type):
        missing += _sums(_nulls(column), ends)
        ends = _ends(_lengths(column))[ends]
        column = column.flatten()
    if not _is_number(column.type):
        return None
    nulls = _sums(_nulls(column), ends)
    values = _values(column)
    nonfinite = _sums(~np.isfinite(values), ends) if values.dtype.kind == "f" else np.zeros_like(missing)
    digests = _bits(values) if is_one else fingerprints_of(values, ends)
    # what is null was filled with NaN, and is missing rather than not finite
    return Cells(missing + nulls, np.maximum(nonfinite - nulls, 0), np.diff(ends), digests)


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return any(each(kind) for each in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_whole = pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
    return pa.types.is_floating(kind) or is_whole or pa.types.is_null(kind)


def _values(column: pa.Array) -> Array:
    """As the model would get them, float32 or int64, but without the sign of a zero; NaN where one is missing."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan, dtype=np.float32)
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind != "f":
        return np.ascontiguousarray(values, dtype=np.int64)
    with np.errstate(over="ignore"):
        # Adding 0 makes 0.0 of -0.0, which is no other input to any model.
        return np.ascontiguousarray(values, dtype=np.float32) + np.float32(0)


def _nulls(column: pa.Array) -> Array:
    import numpy as np

    if not column.null_count:
        return np.zeros(len(column), dtype=bool)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def _lengths(column: pa.Array) -> Array:
    import numpy as np
    import pyarrow.compute as pc

    return np.asarray(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _ends(lengths: Array) -> Array:
    import numpy as np

    return np.concatenate([[0], np.cumsum(lengths)])


def _sums(flags: Array, ends: Array) -> Array:
    """How many are set among the values of each row."""
    import numpy as np

    return np.diff(_ends(flags)[ends]) if flags.any() else np.zeros(len(ends) - 1, dtype=np.int64)


def _bits(values: Array) -> Array:
    """One number is its own digest."""
    import numpy as np

    return values.view(np.int32).astype(np.int64) if values.dtype.kind == "f" else values


def fingerprints_of(values: Array, ends: Array) -> Array:
    """(b,), int64, equal for rows of equal values.

    Args:
        values: Of all rows, one row after the other.
        ends: (b + 1,), where each row begins, and the last ends.
    """
    import numpy as np

    content, size = values.view(np.uint8).data if len(values) else memoryview(b""), values.itemsize
    rows = (content[start:stop] for start, stop in pairwise((ends * size).tolist()))
    return _digests(rows, values.dtype.str.encode())


def _digests(contents: Iterable[bytes | memoryview], person: bytes = b"") -> Array:
    import numpy as np

    fresh = hashlib.blake2b(digest_size=_DIGEST_BYTES, person=person)

    def digest(content: bytes | memoryview) -> bytes:
        one = fresh.copy()
        one.update(content)
        return one.digest()

    return np.frombuffer(b"".join(map(digest, contents)), dtype="<i8").astype(np.int64)
