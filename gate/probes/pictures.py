"""Pictures in a column: their files, and the pixels of a file, upright and in one mode."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import warnings
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import ProbeError
from gate.probes.rows import in_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import pyarrow as pa
    from PIL.Image import Image

    Mode = Literal["L", "RGB"]

MOST_PIXELS = 64 << 20  # of one picture: 192 MB in memory
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa")


def are_pictures(kind: pa.DataType) -> bool:
    """Whether a column of this type holds files of pictures: bytes, or a struct of `bytes` and `path`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def files(column: pa.Array, what: str, ids: Sequence[str]) -> list[bytes]:
    """The file of each picture.

    Args:
        column: Bytes, or a struct of `bytes` (in JSON as base64) and `path`, of length b; in a struct `why` may say why
            there are none.
        what: For the message ("input 'image'").
        ids: Of the b rows.

    Raises:
        ProbeError: One is missing or empty, or is not held by the column but only named.
    """
    found: list[bytes] = []
    for position, value in enumerate(_field(column, "bytes").to_pylist()):
        if not value:
            raise ProbeError(_missing(column, what, in_row(ids, 0, position), position))
        found.append(value if isinstance(value, bytes) else _decoded_text(value, what, in_row(ids, 0, position)))
    return found


def _missing(column: pa.Array, what: str, row: str, position: int) -> str:
    path, why = (texts_of(column, field)[position] for field in ("path", "why"))
    if why:
        return f"{what} of {row}: {why}"
    named = f" ({path})" if path else ""
    needed = "every row needs the bytes of a picture"
    return f"{what}: is missing in {row}, or names a file that it does not hold{named}; {needed}"


def called(column: pa.Array, ids: Sequence[str]) -> list[str]:
    """How messages call the rows of a column of pictures: `row '7' (a/b.png)`, with the name of its file."""
    paths = zip(texts_of(column, "path"), ids, strict=True)
    rows = (in_row(ids, 0, position) for position in range(len(ids)))
    return [f"{row} ({path})" if path and path != each else row for row, (path, each) in zip(rows, paths, strict=True)]


def _field(column: pa.Array, name: str) -> pa.Array:
    """The field of a struct; the column itself where it is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(column, name) if pa.types.is_struct(column.type) else column


def texts_of(column: pa.Array, name: str) -> list[str | None]:
    """The texts of a field that a struct may have; each None where it has not."""
    import pyarrow as pa

    if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
        return [None] * len(column)
    return [value if isinstance(value, str) else None for value in _field(column, name).to_pylist()]


def unreadable(column: pa.Array) -> dict[int, str]:
    """What is wrong with each picture that cannot be read, by its place; of those that are missing nothing.

    Args:
        column: Of pictures; one at a time is in memory.
    """
    found = {}
    for position in range(len(column)):
        one = column.slice(position, 1)
        if not _field(one, "bytes").to_pylist()[0]:
            continue
        try:
            opened(files(one, "", ("",))[0], "")
        except ProbeError as error:
            found[position] = str(error).removeprefix(": ")
    return found


def _decoded_text(text: str, what: str, row: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProbeError(f"{what}: `bytes` of {row} is no base64, as a text with a picture must be: {error}") from error


def opened(file: bytes, where: str, mode: Mode = "RGB") -> Image:
    """The picture of a file, turned as its EXIF orientation says, without its transparency.

    Args:
        file: BMP, GIF, JPEG, PNG, PPM, TIFF or WebP, of one frame and 8 bits a channel.
        where: For the message ("input 'image' of row '7'").
        mode: Grey or colour.

    Raises:
        ProbeError: It is truncated, of another format, or of too many pixels.
    """
    from PIL import Image, ImageOps

    with _readable(where), Image.open(io.BytesIO(file), formats=_FORMATS) as picture:
        _require_modest(picture, where)
        upright = ImageOps.exif_transpose(picture)
        if "transparency" in upright.info:
            upright = upright.convert("RGBA")
        return upright.convert(mode)


def pixels(file: bytes, where: str) -> np.ndarray[Any, Any]:
    """(height, width, 3), uint8, of a file as in `opened`.

    Raises:
        ProbeError: As there.
    """
    import numpy as np

    return np.asarray(opened(file, where))


def _require_modest(picture: Image, where: str) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise ProbeError(
            f"{where}: is a picture of {width} x {height} pixels, expected at most {MOST_PIXELS} in all; "
            "make it smaller"
        )
    frames = getattr(picture, "n_frames", 1)
    if frames != 1:
        raise ProbeError(f"{where}: is a picture of {frames} frames, expected one; write each to a file of its own")
    if picture.mode not in _EIGHT_BITS:
        raise ProbeError(
            f"{where}: is a picture of mode {picture.mode!r}, expected 8 bits a channel; convert it, since cutting its "
            "values off would change it unseen"
        )


@contextmanager
def _readable(where: str) -> Iterator[None]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on what it repairs
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ProbeError(
            f"{where}: is a picture of too many pixels, expected at most {MOST_PIXELS}: {error}"
        ) from error
    except (OSError, ValueError, SyntaxError, struct.error, zlib.error, IndexError, KeyError, TypeError) as error:
        # What Pillow's decoders raise on damage.
        told = re.sub(r"\s*<\S+ object at 0x[0-9a-fA-F]+>", "", str(error))  # Pillow names what it reads from
        reason = (told.strip().splitlines() or [type(error).__name__])[0][:300]
        raise ProbeError(
            f"{where}: is no picture that can be read: {reason}; expected a whole file, one of {', '.join(_FORMATS)}"
        ) from error
