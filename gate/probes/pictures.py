"""Pictures in a column: their files, and the pixels of a file, upright and in one mode."""

from __future__ import annotations

import base64
import binascii
import io
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
        column: Bytes, or a struct of `bytes` (in JSON as base64) and `path`, of length b.
        what: For the message ("input 'image'").
        ids: Of the b rows.

    Raises:
        ProbeError: One is missing or empty, or is not held by the column but only named.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
    found: list[bytes] = []
    for position, value in enumerate(values.to_pylist()):
        if not value:
            raise ProbeError(
                f"{what}: is missing in {in_row(ids, 0, position)}, or names a file that it does not hold; every row "
                "needs the bytes of a picture"
            )
        found.append(value if isinstance(value, bytes) else _decoded_text(value, what, in_row(ids, 0, position)))
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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ProbeError(
            f"{where}: is no picture that can be read: {reason}; expected a whole file, one of {', '.join(_FORMATS)}"
        ) from error
