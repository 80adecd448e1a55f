"""The canonical form of columns: which numbers the model gets, and which texts name the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa


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

    if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
        import pyarrow.compute as pc

        column = pc.struct_field(column, "path")  # a picture is named by its file
    try:
        values = _listed(column.cast(pa.string()), what)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ProbeError(f"{what}: has the type {column.type}, expected texts or numbers") from error
    for position, value in enumerate(values):
        if value is None or value in {"", "nan"}:
            raise ProbeError(f"{what}: is missing in {in_row(ids, start, position)}; every row needs one")
    return tuple(values)


def written(column: pa.Array, what: str, ids: Sequence[str]) -> tuple[str, ...]:
    """A column of texts that the model reads.

    Raises:
        ProbeError: One is missing or blank.
    """
    values = _listed(column, what)
    for position, value in enumerate(values):
        if value is None or not value.strip():
            found = "missing" if value is None else "blank"
            raise ProbeError(f"{what}: is {found} in {in_row(ids, 0, position)}; every row needs a text to be shown")
    return tuple(values)


def _listed(column: pa.Array, what: str) -> list[Any]:
    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise ProbeError(f"{what}: holds bytes that are no UTF-8: {error}; write texts as UTF-8") from error
    return found


def decoded(column: pa.Array) -> pa.Array:
    """The values of a column that holds places in a dictionary, as writers of data frames make them of categories."""
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def are_texts(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds one number in each row; truth is no number."""
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not pa.types.is_uint64(kind)))


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
        raise ProbeError(f"{what}: is {values[wrong[0]]} in {in_row(ids, 0, int(wrong[0]))}, expected a finite number")
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
        raise ProbeError(
            f"{what}: is missing in {in_row(ids, 0, row * len(ids) // len(column))}; NaN is written as NaN"
        )
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        inner = dense(column.flatten(), what, ids)
        return inner.reshape(len(column), _width(column, what, ids), *inner.shape[1:])
    if not is_number(column.type):
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
            f"{what}: holds {widths[wrong[0]]} values in {in_row(ids, 0, row)} and {widths[0]} in the first; "
            "every row needs as many"
        )
    return int(widths[0])


def in_row(ids: Sequence[str] | None, start: int, position: int) -> str:
    """How a message names a row: by its id, or by its number while the ids themselves are read."""
    return f"row number {start + position}" if ids is None else f"row {ids[position]!r}"
