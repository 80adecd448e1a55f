"""Inputs on their way to the worker: a description in JSON, and arrays in shared memory.

Texts go as one blob of UTF-8 with the place where each ends, pictures as one run of pixels with the shape of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from gate.errors import ModelError
from gate.isolation.arena import aligned

if TYPE_CHECKING:
    from mmap import mmap

    from gate.inputs import Array, Inputs

_KINDS = "biufc"


class Packed:
    """Inputs that wait for a place.

    Args:
        inputs: Arrays of numbers, texts, pictures, or several of these by name.

    Attributes:
        described: What `unpacked` needs beside the memory.
        size: Bytes of memory that they take.

    Raises:
        ModelError: Something else than numbers, texts and pictures.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.size = 0
        self._placed: list[tuple[int, Array]] = []
        self.described = self._described(inputs)

    def write(self, memory: mmap) -> None:
        """Copy everything to its place."""
        for offset, array in self._placed:
            _view(memory, offset, array.dtype, array.shape)[...] = array

    def _described(self, inputs: Inputs) -> dict[str, object]:
        if isinstance(inputs, Mapping):
            return {"kind": "named", "inputs": [[name, self._described(each)] for name, each in inputs.items()]}
        if not isinstance(inputs, tuple):
            return {"kind": "array", "array": self._place(inputs)}
        if inputs and not isinstance(inputs[0], str):
            return self._pictures(inputs)
        return self._texts(cast("tuple[str, ...]", inputs))

    def _texts(self, texts: tuple[str, ...]) -> dict[str, object]:
        import numpy as np

        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return {"kind": "texts", "ends": self._place(ends), "blob": self._place(blob)}

    def _pictures(self, pictures: tuple[Array, ...]) -> dict[str, object]:
        import numpy as np

        for picture in pictures:
            if picture.dtype != np.uint8 or picture.ndim != 3:
                found = f"{picture.shape} {picture.dtype}"
                raise ModelError(f"a picture is shown as (height, width, channels) uint8, found {found}")
        shapes = np.array([picture.shape for picture in pictures], dtype=np.int64)
        pixels = np.concatenate([picture.reshape(-1) for picture in pictures])
        return {"kind": "pictures", "shapes": self._place(shapes), "pixels": self._place(pixels)}

    def _place(self, array: Array) -> dict[str, object]:
        if array.dtype.kind not in _KINDS:
            raise ModelError(
                f"a model in a process of its own is shown numbers, texts or pictures, found {array.dtype}"
            )
        offset = aligned(self.size)
        self._placed.append((offset, array))
        self.size = offset + array.nbytes
        return {"dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}


def unpacked(described: Mapping[str, Any], memory: mmap) -> Inputs:
    """The inputs again, as copies; for the worker, which trusts what the judge describes."""
    kind = described["kind"]
    if kind == "named":
        return {name: unpacked(each, memory) for name, each in described["inputs"]}
    if kind == "array":
        return _taken(described["array"], memory)
    if kind == "texts":
        blob = _taken(described["blob"], memory).tobytes()
        ends = _taken(described["ends"], memory).tolist()
        return tuple(
            blob[start:end].decode("utf-8", "surrogatepass") for start, end in zip([0, *ends], ends, strict=False)
        )
    return _pictures(_taken(described["shapes"], memory), _taken(described["pixels"], memory))


def _pictures(shapes: Array, pixels: Array) -> tuple[Array, ...]:
    import numpy as np

    ends = np.cumsum(shapes.prod(axis=1))
    parts = np.split(pixels, ends[:-1])
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes.tolist(), strict=True))


def _taken(place: Mapping[str, Any], memory: mmap) -> Array:
    return _view(memory, place["offset"], place["dtype"], tuple(place["shape"])).copy()


def _view(memory: mmap, offset: int, dtype: Any, shape: tuple[int, ...]) -> Array:  # noqa: ANN401 - as numpy takes it
    import numpy as np

    return np.ndarray(shape, np.dtype(dtype), buffer=memory, offset=offset)
