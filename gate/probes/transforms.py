"""How pictures become the numbers that a model is shown: resize, centre crop, scale, mean and standard deviation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import ProbeError
from gate.probes import pictures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from PIL.Image import Image

    Array = np.ndarray[Any, Any]

Size = int | tuple[int, int]


@dataclass(frozen=True)
class Transform:
    """What is done to each picture, in this order.

    Attributes:
        resize: Of the shorter side, the longer one rounded down; or (height, width).
        crop: Side of a square in the centre, or (height, width) there.
        channels: 3 for colour, 1 for grey (ITU-R 601-2).
        scale: What a pixel is divided by.
        mean: Of each channel, subtracted; none for 0.
        std: Of each channel, divided by; none for 1.
        interpolation: Of `resize`, with antialiasing as Pillow does it.
    """

    resize: Size | None = None
    crop: Size | None = None
    channels: Literal[1, 3] = 3
    scale: float = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def canonical(self) -> str:
        """JSON that is the same for equal transforms, for digests."""
        content = asdict(self) | {"scale": float(self.scale)}
        content |= {key: [float(each) for each in content[key]] for key in ("mean", "std")}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    def of_files(self, files: Sequence[bytes], places: Sequence[str], *, keep: bool = True) -> Array:
        """(b, channels, height, width), float32, of b files of pictures.

        Args:
            files: Of the pictures.
            places: For messages, of each ("input 'image' of row '7'").
            keep: Whether the numbers are wanted; without, there is one picture in memory at a time, and all are 0.

        Raises:
            ProbeError: One cannot be read, is smaller than the crop, or becomes another size than the first.
        """
        mode: pictures.Mode = "RGB" if self.channels == 3 else "L"
        opened = (pictures.opened(file, where, mode) for file, where in zip(files, places, strict=True))
        return self._stacked(opened, places, keep=keep)

    def of_arrays(self, values: Array, what: str, ids: Sequence[str]) -> Array:
        """The same of pictures that are arrays.

        Args:
            values: (b, height, width) or (b, height, width, 1 or 3), whole numbers from 0 to 255.
            what: For the message.
            ids: Of the b rows.

        Raises:
            ProbeError: They are no such pictures, or as for files.
        """
        import numpy as np
        from PIL import Image

        shape = values.shape[1:]
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)) or values.dtype.kind not in "iu":
            raise ProbeError(
                f"{what}: each row has shape {shape} and the type {values.dtype}; probe.transform expects pictures, "
                "(height, width, 3) or (height, width) of whole numbers from 0 to 255"
            )
        if values.size and (values.min() < 0 or values.max() > 255):
            raise ProbeError(
                f"{what}: holds values from {values.min()} to {values.max()}; probe.transform expects 0 to 255"
            )
        mode = "RGB" if self.channels == 3 else "L"
        whole = (each[..., 0] if each.shape[2:] == (1,) else each for each in values.astype(np.uint8))
        places = [f"{what} of row {each!r}" for each in ids]
        return self._stacked((Image.fromarray(np.ascontiguousarray(each)).convert(mode) for each in whole), places)

    def _stacked(self, opened: Iterable[Image], places: Sequence[str], *, keep: bool = True) -> Array:
        import numpy as np

        rows: Array | None = None
        for position, picture in enumerate(opened):
            row = self._of(picture, places[position])
            if rows is None:
                shape = (len(places), *row.shape)
                rows = np.empty(shape, dtype=np.float32) if keep else np.broadcast_to(np.float32(0), shape)
            if row.shape != rows.shape[1:]:
                raise ProbeError(
                    f"{places[position]}: becomes {row.shape} and the first row {rows.shape[1:]}; every row needs one "
                    "size: add `crop` to probe.transform, or `resize` with a height and a width"
                )
            if keep:
                rows[position] = row
        if rows is None:
            raise ProbeError("no picture was given; this is a fault of the gate")
        return rows

    def _of(self, picture: Image, where: str) -> Array:
        import numpy as np

        values = np.asarray(self._cropped(self._resized(picture), where), dtype=np.float32)
        values = values.reshape(*values.shape[:2], self.channels).transpose(2, 0, 1) / np.float32(self.scale)
        for numbers, apply in ((self.mean, np.subtract), (self.std, np.divide)):
            if numbers:
                values = apply(values, np.asarray(numbers, dtype=np.float32)[:, None, None])
        return values

    def _resized(self, picture: Image) -> Image:
        from PIL.Image import Resampling

        if self.resize is None:
            return picture
        width, height = picture.size
        if isinstance(self.resize, int):
            short = min(width, height)
            target = (max(1, self.resize * width // short), max(1, self.resize * height // short))
        else:
            target = (self.resize[1], self.resize[0])
        return picture.resize(target, Resampling[self.interpolation.upper()])

    def _cropped(self, picture: Image, where: str) -> Image:
        if self.crop is None:
            return picture
        height, width = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        if picture.width < width or picture.height < height:
            raise ProbeError(
                f"{where}: is {picture.height} x {picture.width} before the crop to {height} x {width}; add or enlarge "
                "`resize` in probe.transform"
            )
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        return picture.crop((left, top, left + width, top + height))
