"""Tensors on their way to the judge, who believes nothing that describes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gate.isolation.arena import MOST_BYTES, aligned
from gate.isolation.channel import MessageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from mmap import mmap

    from torch import Tensor

ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}
_KEYS = {"name", "dtype", "shape", "offset", "bytes"}
_MOST_DIMENSIONS = 16


def placed(tensors: Mapping[str, Tensor]) -> tuple[list[dict[str, object]], int]:
    """Where each tensor goes, and the bytes of memory that all of them take."""
    places: list[dict[str, object]] = []
    size = 0
    for name, tensor in tensors.items():
        dtype, offset = str(tensor.dtype).removeprefix("torch."), aligned(size)
        size = offset + tensor.nbytes
        shape = list(tensor.shape)
        places.append({"name": name, "dtype": dtype, "shape": shape, "offset": offset, "bytes": tensor.nbytes})
    return places, size


def write(tensors: Mapping[str, Tensor], places: Sequence[Mapping[str, object]], memory: mmap) -> None:
    """Copy each tensor to its place, from whatever device it is on."""
    import torch

    for place, tensor in zip(places, tensors.values(), strict=True):
        if tensor.nbytes:
            offset, count = _whole(place["offset"]), tensor.numel()
            target = torch.frombuffer(memory, dtype=tensor.dtype, count=count, offset=offset)
            target.copy_(tensor.detach().reshape(-1))


def read(described: object, memory: mmap | None, names: Collection[str]) -> dict[str, Tensor]:
    """Copies of the tensors that the worker describes.

    Args:
        described: What stands in its message.
        memory: Where it says that they lie; None when it was given none.
        names: What may be among them.

    Raises:
        MessageError: A name that was not asked for or comes twice, a type that is not taken, a shape that does not fit
            the bytes, or bytes that lie outside the memory.
    """
    if not isinstance(described, list):
        raise MessageError(f"tensors that are a {type(described).__name__}, expected a list")
    tensors: dict[str, Tensor] = {}
    for place in described:
        name, tensor = _read(place, memory, names)
        if name in tensors:
            raise MessageError(f"the tensor {name!r} twice")
        tensors[name] = tensor
        if sum(each.nbytes for each in tensors.values()) > len(memory or b""):
            raise MessageError(f"the tensor {name!r} in the place of another")
    return tensors


def _read(place: object, memory: mmap | None, names: Collection[str]) -> tuple[str, Tensor]:
    import torch

    if not isinstance(place, dict) or place.keys() != _KEYS:
        raise MessageError(f"a tensor that is not described by {', '.join(sorted(_KEYS))}")
    name, dtype = place["name"], place["dtype"]
    if not isinstance(name, str) or name not in names:
        raise MessageError(f"a tensor {_short(name)}, expected only {', '.join(sorted(names)) or 'none'}")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise MessageError(f"the tensor {name!r} as {_short(dtype)}, expected {', '.join(ITEM_BYTES)}")
    shape, offset = _shape(name, place["shape"]), _whole(place["offset"])
    count = math.prod(shape)
    if _whole(place["bytes"]) != count * ITEM_BYTES[dtype]:
        raise MessageError(f"the tensor {name!r} of shape {shape} {dtype} in {_short(place['bytes'])} bytes")
    kind = getattr(torch, dtype)
    if count == 0:
        return name, torch.empty(shape, dtype=kind)
    if memory is None or offset % ITEM_BYTES[dtype] or offset + count * ITEM_BYTES[dtype] > len(memory):
        raise MessageError(f"the tensor {name!r} at {offset}, outside the memory of {len(memory or b'')} bytes")
    return name, torch.frombuffer(memory, dtype=kind, count=count, offset=offset).clone().reshape(shape)


def _shape(name: str, found: object) -> list[int]:
    if not isinstance(found, list) or len(found) > _MOST_DIMENSIONS:
        raise MessageError(f"the tensor {name!r} of shape {_short(found)}")
    shape = [_whole(each) for each in found]
    # With an empty dimension the others could still overflow what torch counts in.
    if math.prod(max(each, 1) for each in shape) > MOST_BYTES:
        raise MessageError(f"the tensor {name!r} of shape {_short(found)}, expected at most {MOST_BYTES} bytes")
    return shape


def _whole(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise MessageError(f"{_short(found)} for a size or a place, expected a whole number from 0 on")
    return found


def _short(found: object) -> str:
    return repr(found)[:80]
