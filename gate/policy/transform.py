"""What is done to the pictures of a probe set before the model is shown them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gate.policy.kinds import Keys, Number, shown

_LARGEST = 16384  # side in pixels


def _size(value: object) -> object:
    sides = list(value) if isinstance(value, list | tuple) else [value]
    fits = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= _LARGEST for side in sides)
    if not fits or len(sides) != (2 if isinstance(value, list | tuple) else 1):
        raise ValueError(f"should be a number of pixels, at most {_LARGEST}, or [height, width]; found {shown(value)}")
    return tuple(sides) if isinstance(value, list) else value


_SIDE = {"type": "integer", "minimum": 1, "maximum": _LARGEST}
_SIZE = {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}]}

OptionalSize = Annotated[
    int | tuple[int, int] | None,
    BeforeValidator(lambda value: None if value is None else _size(value)),
    WithJsonSchema(_SIZE),
]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class Transform(Keys):
    """How pictures become numbers (channels, height, width), in this order; upright as their EXIF orientation says."""

    resize: OptionalSize = None
    """Pixels of the shorter side, or [height, width]; antialiased, as Pillow and torchvision do it."""
    crop: OptionalSize = None
    """Pixels of the side of a square in the centre, or [height, width]."""
    channels: Literal[1, 3] = 3
    """3 for colour, 1 for grey; transparency is left out."""
    scale: Positive = 255
    """What each value, from 0 to 255, is divided by."""
    mean: Annotated[tuple[Number, ...], Field(min_length=1)] | None = None
    """Of each channel, subtracted after that."""
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """Of each channel, divided by last."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Of `resize`."""

    @model_validator(mode="after")
    def _one_number_for_each_channel(self) -> Self:
        for key in ("mean", "std"):
            numbers = getattr(self, key)
            if numbers is not None and len(numbers) != self.channels:
                raise ValueError(
                    f"`{key}` should have one number for each of {self.channels} channels, found {len(numbers)}"
                )
        return self
