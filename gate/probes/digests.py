"""The digest of each row, and of all of them, whatever the format and the order of the file."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np

    Column = Sequence[str] | Sequence[float] | Sequence[bytes]

DIGEST_BYTES = 16


def array_digests(inputs: np.ndarray[Any, Any]) -> bytes:
    """One digest for the input of each row, concatenated; the shape of a row does not count, its type does.

    Args:
        inputs: (b, ...), canonical.

    Returns:
        16 b bytes.
    """
    width = inputs[0].nbytes
    content = inputs.reshape(-1).data.cast("B")
    return _digests((content[start : start + width] for start in range(0, len(content), width)), inputs.dtype.str)


def text_digests(texts: Sequence[str]) -> bytes:
    """One digest for each text; none of them is that of a number."""
    return _digests((text.encode() for text in texts), "text")


def picture_digests(files: Sequence[bytes]) -> bytes:
    """One digest for each picture, of its file and not of its pixels, which decoders may round in their own ways."""
    return _digests(files, "picture")


def named_digests(parts: Mapping[str, tuple[str, bytes]]) -> bytes:
    """One digest for what each row shows under several names, in their order.

    Args:
        parts: Name → what distinguishes it from other values of the same digest, and 16 b bytes.

    Returns:
        16 b bytes.
    """
    columns: list[Iterable[bytes]] = []
    for name, (kind, content) in parts.items():
        head = b"".join(b"%d:%b" % (len(text), text) for text in (name.encode(), kind.encode()))
        columns.append([head + each for each in split(content)])
    return _digests((b"".join(row) for row in zip(*columns, strict=True)), "named")


def row_digests(inputs: bytes, /, *columns: Column | None, **later: Column | None) -> bytes:
    """One digest for all of each row, concatenated.

    Args:
        inputs: 16 b bytes, of the input of each row.
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
    return _digests(b"".join(row) for row in zip(split(inputs), *encoded, strict=True))


def total_digest(rows: bytearray) -> str:
    """SHA-256 over the sorted digests of all rows: their order in the file does not count, each of them does."""
    import numpy as np

    halves = np.frombuffer(rows, dtype=">u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(halves[order]).data).hexdigest()}"


def fingerprints(inputs: bytes) -> np.ndarray[Any, Any]:
    """(b,), int64, of 16 b bytes: equal for equal digests."""
    import numpy as np

    return np.frombuffer(inputs, dtype="<i8")[::2].astype(np.int64)


def split(digests: bytes) -> list[bytes]:
    """The digest of each row by itself."""
    return [digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)]


def _digests(contents: Iterable[bytes | memoryview], person: str = "") -> bytes:
    """Digests of values of one kind: the same bytes of another kind have another one."""
    fresh = hashlib.blake2b(digest_size=DIGEST_BYTES, person=person.encode())

    def digest(content: bytes | memoryview) -> bytes:
        one = fresh.copy()  # a third faster than a new one with its keywords
        one.update(content)
        return one.digest()

    return b"".join(map(digest, contents))


def _encoded(column: Column | None, count: int) -> list[bytes]:
    """Each value with its length before it, so that no two rows can be written alike."""
    if column is None:
        return [b"-"] * count
    return [b"%d:%b" % (len(content), content) for content in map(_ENCODERS[type(column[0])], column)]


_ENCODERS: dict[type, Callable[[Any], bytes]] = {str: str.encode, bytes: bytes, float: struct.Struct("<d").pack}
