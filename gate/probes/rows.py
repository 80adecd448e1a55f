"""The canonical form of rows: which numbers the model gets, which texts name them, and the digest of each row."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

from gate.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa

DIGEST_BYTES = 16


def texts(column: pa.Array, what: str, ids: Sequence[str] | None, start: int) -> tuple[str, ...]:
    """A column of names, such as labels or ids, as texts; a missing one is refused.

    Args:
        column: Strings, numbers, booleans or dates, of length b.
        what: For the message ("label 'topic'").
        ids: Of the rows, None while the ids themselves are read.
        start: Number of the first row in the file.

    Raises:
        ProbeError: A value is missing (null, NaN or empty), or the type has no text.
    """
    import pyarrow as pa

    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ProbeError(f"{what}: has the type {column.type}, expected texts or numbers") from error
    for position, value in enumerate(values):
        if value is None or value in {"", "nan"}:
            raise ProbeError(f"{what}: is missing in {_row(ids, start, position)}; every row needs one")
    return tuple(values)


def numbers(column: pa.Array, what: str, ids: Sequence[str]) -> tuple[float, ...]:
    """A column of finite numbers.

    Raises:
        ProbeError: A value is missing, not finite or not a number.
    """
    import numpy as np

    values = dense(column, what, ids)
    if values.ndim != 1:
        raise ProbeError(f"{what}: has the type {column.type}, expected one number for each row")
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise ProbeError(f"{what}: is {values[wrong[0]]} in {_row(ids, 0, int(wrong[0]))}, expected a finite number")
    return tuple(values.astype(np.float64).tolist())


def dense(column: pa.Array, what: str, ids: Sequence[str]) -> np.ndarray[Any, Any]:
    """A column of numbers, or of (nested) lists of equal lengths, as one array.

    Args:
        column: Of length b.
        what: For the message ("input 'pixels'").
        ids: Of the b rows.

    Returns:
        (b, ...), in the type of the column.

    Raises:
        ProbeError: A value is missing, not a number, or the lists differ in length.
    """
    import numpy as np
    import pyarrow as pa

    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ProbeError(f"{what}: is missing in {_row(ids, 0, row * len(ids) // len(column))}; NaN is written as NaN")
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        inner = dense(column.flatten(), what, ids)
        return inner.reshape(len(column), _width(column, what, ids), *inner.shape[1:])
    if not _is_number(column.type):
        advice = "; write it as float32, 1.0 for true and 0.0 for false" if pa.types.is_boolean(column.type) else ""
        expected = "expected numbers or lists of numbers of equal length"
        raise ProbeError(f"{what}: has the type {column.type}, {expected}{advice}")
    values: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    return values


def canonical(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Little-endian float32 for floating point, int64 for whole numbers; contiguous."""
    import numpy as np

    wanted = np.dtype("<f4") if values.dtype.kind == "f" else np.dtype("<i8")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and the statistics refuse it
        return np.ascontiguousarray(values, dtype=wanted)


def input_digests(inputs: np.ndarray[Any, Any]) -> bytes:
    """One digest for the input of each row, concatenated; the shape of a row does not count, its type does.

    Args:
        inputs: (b, ...), canonical.

    Returns:
        16 b bytes.
    """
    width = inputs[0].nbytes
    content = inputs.reshape(-1).data.cast("B")
    person = inputs.dtype.str.encode()
    return b"".join(
        hashlib.blake2b(content[start : start + width], digest_size=DIGEST_BYTES, person=person).digest()
        for start in range(0, len(content), width)
    )


def row_digests(
    inputs: bytes, *columns: Sequence[str] | Sequence[float] | None, **later: Sequence[str] | Sequence[float] | None
) -> bytes:
    """One digest for all of each row, concatenated.

    Args:
        inputs: 16 b bytes, from `input_digests`.
        columns: Each of length b, or None where the probe set has no such column.
        later: The same by name, for columns that a probe set without them has no trace of.

    Returns:
        16 b bytes.
    """
    count = len(inputs) // DIGEST_BYTES
    encoded = [_encoded(column, count) for column in columns]
    for name, column in later.items():
        if column is not None:
            encoded += [[f"{name}=".encode()] * count, _encoded(column, count)]
    return b"".join(
        hashlib.blake2b(
            inputs[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES] + b"".join(parts), digest_size=DIGEST_BYTES
        ).digest()
        for row, parts in enumerate(zip(*encoded, strict=True))
    )


def total_digest(rows: bytearray) -> str:
    """SHA-256 over the sorted digests of all rows: their order in the file does not count, each of them does."""
    import numpy as np

    halves = np.frombuffer(rows, dtype=">u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(halves[order]).data).hexdigest()}"


def _encoded(column: Sequence[str] | Sequence[float] | None, count: int) -> list[bytes]:
    """Each value with its length before it, so that no two rows can be written alike."""
    if column is None:
        return [b"-"] * count
    contents = [value.encode() if isinstance(value, str) else struct.pack("<d", value) for value in column]
    return [b"%d:%b" % (len(content), content) for content in contents]


def _width(column: pa.Array, what: str, ids: Sequence[str]) -> int:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    widths = np.diff(column.offsets.to_numpy())
    wrong = np.flatnonzero(widths != widths[0])
    if wrong.size:
        row = int(wrong[0]) * len(ids) // len(column)
        raise ProbeError(
            f"{what}: holds {widths[wrong[0]]} values in {_row(ids, 0, row)} and {widths[0]} in the first; "
            "every row needs as many"
        )
    return int(widths[0])


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not pa.types.is_uint64(kind))


def _row(ids: Sequence[str] | None, start: int, position: int) -> str:
    return f"row number {start + position}" if ids is None else f"row {ids[position]!r}"
