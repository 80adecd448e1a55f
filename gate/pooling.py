"""What a layer gives becomes one row of features per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from gate.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterator

Pooling = Literal["none", "mean", "cls", "last", "max", "flatten", "spatial_mean"]


def rows_of(output: object, pooling: Pooling, *, count: int, where: str) -> Tensor:
    """One row per sample out of what a layer gave.

    Args:
        output: A tensor (b, ...), or a structure that holds exactly one.
        pooling: How a sample becomes a row.
        count: b, the number of samples that the layer was given.
        where: Names the layer in messages.

    Returns:
        (b, d), in the dtype of the output; integers become float32.

    Raises:
        LayerError: No tensor or several, another number of rows than samples, or a shape that needs another pooling.
    """
    tensor = _only_tensor(output, where)
    rows = _pool(tensor, pooling, where)
    if rows.shape[0] != count:
        raise LayerError(
            f"{where}: gave {rows.shape[0]} rows for {count} samples (output shape {tuple(tensor.shape)}); "
            "the first dimension must be the batch"
        )
    return rows if rows.is_floating_point() else rows.to(torch.float32)


def structure(output: object) -> str:
    """What a layer gave, in short: "(8, 64)", "tuple((8, 5, 64), None)", "dict(logits: (8, 10))"."""
    kind = type(output).__name__
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        return f"{kind}({', '.join(f'{key}: {structure(value)}' for key, value in output.items())})"
    if isinstance(output, (tuple, list)):
        return f"{kind}({', '.join(map(structure, output))})"
    return "None" if output is None else kind


def _mean(output: Tensor, first: int) -> Tensor:
    floating = output if output.is_floating_point() else output.to(torch.float32)
    return floating.flatten(first).mean(dim=first) if first > 1 else floating.mean(dim=first)


_POOLED: dict[Pooling, Callable[[Tensor], Tensor]] = {
    "none": lambda output: output,
    "mean": lambda output: _mean(output, 1),
    "cls": lambda output: output[:, 0],
    "last": lambda output: output[:, -1],
    "max": lambda output: output.amax(dim=1),
    "flatten": lambda output: output.flatten(1),
    "spatial_mean": lambda output: _mean(output, 2),
}
# By number of dimensions of the output, batch included: the poolings that make (b, d) of it.
_FITTING: dict[int, tuple[Pooling, ...]] = {
    2: ("none", "flatten"),
    3: ("mean", "cls", "last", "max", "flatten", "spatial_mean"),
}


def _pool(output: Tensor, pooling: Pooling, where: str) -> Tensor:
    shape = tuple(output.shape)
    if len(shape) <= 1 or output.numel() == 0:
        raise LayerError(f"{where}: the output has shape {shape}; one row of at least one value per sample is needed")
    fitting = _FITTING.get(len(shape), ("spatial_mean", "flatten"))
    if pooling not in fitting:
        raise LayerError(
            f"{where}: the output has shape {shape}, which pooling {pooling!r} does not make (b, d); "
            f"poolings that fit: {', '.join(fitting)}"
        )
    return _POOLED[pooling](output)


def _only_tensor(output: object, where: str) -> Tensor:
    tensors = list(_tensors(output))
    if len(tensors) != 1:
        raise LayerError(
            f"{where}: gave {structure(output)}, expected one tensor; name a layer whose output is a single tensor"
        )
    return tensors[0]


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (Mapping, tuple, list)):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(value)
