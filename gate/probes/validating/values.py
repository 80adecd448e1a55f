"""Columns that hold no vectors: which values are missing, and which come twice, whatever their type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gate.probes.rows import are_texts, is_number

if TYPE_CHECKING:
    import pyarrow as pa

    from gate.probes.validating.facts import Array

NUMBERS = ("length", "target")  # roles whose columns hold numbers
_MISSING = ("", "nan")
_WHOLE = r"^(?:0|-?[1-9]\d{0,17})$"  # and never 007, which names something
_PLAIN = r"^(?:0|-?[1-9]\d{0,17}|-?(?:0|[1-9]\d*)\.\d+)$"
_KEYS = ("0123456789123456", "6543219876543210")


def values_of(column: pa.Array, role: str) -> pa.Array | None:
    """The values as their role has them, null where one is missing; None where they are of a kind that it cannot have.

    Args:
        column: Of a batch of rows.
        role: A number for `length` and `target`, a text for any other, a value of any kind but a vector for "".
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
        return values_of(pc.struct_field(column, "path"), role)  # a picture is named by its file
    if role in NUMBERS:
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)
        return _floats(column) if is_number else None
    if not role:
        return _plain(column)
    try:
        texts = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return pc.if_else(pc.is_in(texts, pa.array(_MISSING)), pa.scalar(None, pa.string()), texts)


def own_values(column: pa.ChunkedArray, role: str, kind: pa.DataType) -> pa.ChunkedArray:
    """The same for a suite, which has numbers where the file has numbers, whatever they are for.

    Args:
        column: All rows, as they are read.
        role: As for `values_of`, which takes the values.
        kind: What the file gives without being asked for texts: of CSV numbers, where each text is written as one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = "" if is_number(decoded_type(column.type)) else role
    values = pa.chunked_array([values_of(each, kept) for each in column.chunks])
    if not is_number(kind) or not are_texts(values.type):
        return values
    if pc.all(pc.match_substring_regex(values, _PLAIN)).as_py():
        return values.cast(pa.int64() if pc.all(pc.match_substring_regex(values, _WHOLE)).as_py() else pa.float64())
    return values


def decoded_type(kind: pa.DataType) -> pa.DataType:
    """Of the values, where a column holds places in a dictionary."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def hashes_of(values: pa.Array, *, second: bool = False) -> Array:
    """(b,), uint64, equal for equal values and on every machine; of those that are missing, too.

    Args:
        values: b of them, as `values_of` gives them.
        second: Whether to hash by another key, so that what is equal by chance no longer is.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_floating(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False) + 0.0).view(np.uint64)  # of -0.0, too
    encoded = values.dictionary_encode()
    names = encoded.dictionary
    are_texts = pa.types.is_string(names.type) or pa.types.is_large_string(names.type)
    texts = names.to_numpy(zero_copy_only=False) if are_texts else [*map(str, names.to_pylist())]
    hashed = pd.util.hash_array(np.array(texts, dtype=object), hash_key=_KEYS[second], categorize=False)
    places = encoded.indices.fill_null(len(hashed)).to_numpy(zero_copy_only=False)
    found: Array = np.append(hashed, np.uint64(0))[places]
    return found


def repeated(values: Array) -> Array:
    """The places, in order, of all that come more than once."""
    import numpy as np

    ordered = np.sort(values)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return np.flatnonzero(np.isin(values, again)) if len(again) else np.zeros(0, dtype=np.int64)


def _plain(column: pa.Array) -> pa.Array | None:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return None
    return _floats(column) if pa.types.is_floating(kind) else column


def _floats(column: pa.Array) -> pa.Array:
    """In double precision, null where one is NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
