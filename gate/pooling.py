"""What a layer gives becomes one row of features per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from gate.errors import LayerError
from gate.geometry.statistics import attention_filter, token_means, token_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

Pooling = Literal[
    "none",
    "mean",
    "cls",
    "last",
    "max",
    "flatten",
    "spatial_mean",
    "token_terms",
    "token_steps",
    "token_mean",
    "attention_filter",
]


def rows_of(output: object, pooling: Pooling, *, count: int, where: str, mask: Tensor | None = None) -> Tensor:
    """One row per sample out of what a layer gave.

    Args:
        output: A tensor (b, ...), or a structure that holds exactly one.
        pooling: How a sample becomes a row.
        count: b, the number of samples that the layer was given.
        where: Names the layer in messages.
        mask: (b, t), true for a real token: what is padding has no part in the row. None where every token is real.

    Returns:
        (b, d), in the dtype of the output; integers become float32.

    Raises:
        LayerError: No tensor or several, another number of rows than samples, or of tokens than the mask, or a shape
            that needs another pooling.
    """
    tensor = only_tensor(output, where)
    rows = _pool(tensor, pooling, where, mask)
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


def _floating(output: Tensor) -> Tensor:
    return output if output.is_floating_point() else output.to(torch.float32)


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return _floating(states).mean(dim=1)
    # Zeros and not products: what stands in the place of padding may be infinite.
    kept = _floating(states).masked_fill(~mask[:, :, None], 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1).to(kept.dtype)


def _max(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return states.amax(dim=1)
    return _floating(states).masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)


def _cls(states: Tensor, mask: Tensor | None) -> Tensor:
    return states[:, 0] if mask is None else _at(states, mask.int().argmax(dim=1))


def _last(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return states[:, -1]
    return _at(states, mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1))


def _at(states: Tensor, places: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), places]


_POOLED: dict[Pooling, Callable[[Tensor, Tensor | None], Tensor]] = {
    "none": lambda output, _: output,
    "mean": _mean,
    "cls": _cls,
    "last": _last,
    "max": _max,
    "flatten": lambda output, _: output.flatten(1),
    "spatial_mean": lambda output, _: _floating(output).flatten(2).mean(dim=2),
    "token_terms": token_terms,
    "token_steps": token_terms,
    "token_mean": token_means,
    "attention_filter": lambda maps, mask: attention_filter(maps, mask)[:, None],
}
_OF_TOKENS: tuple[Pooling, ...] = ("mean", "cls", "last", "max", "token_terms", "token_steps", "token_mean")
_OF_ANY_TOKEN: tuple[Pooling, ...] = ("mean", "cls", "last", "max")
# By number of dimensions of the output, batch included: the poolings that make (b, d) of it.
_FITTING: dict[int, tuple[Pooling, ...]] = {
    2: ("none", "flatten"),
    3: (*_OF_TOKENS, "flatten", "spatial_mean"),
    4: ("spatial_mean", "flatten", "attention_filter"),
}
_HIDDEN = ("token_terms", "token_steps", "token_mean", "attention_filter")  # of metrics, and no one's choice


def _pool(output: Tensor, pooling: Pooling, where: str, mask: Tensor | None) -> Tensor:
    shape = tuple(output.shape)
    if not shape or output.numel() == 0 or (len(shape) == 1 and not output.is_floating_point()):
        what = f"{shape} of {output.dtype}".replace("torch.", "")
        raise LayerError(f"{where}: the output has shape {what}; one row of at least one value per sample is needed")
    if len(shape) == 1:  # one value per sample; one whole number would be a decision
        output = output[:, None]
    fitting = _FITTING.get(output.ndim, ("spatial_mean", "flatten"))
    if pooling not in fitting:
        offered = ", ".join(each for each in fitting if each not in _HIDDEN)
        raise LayerError(
            f"{where}: the output has shape {shape}, which pooling {pooling!r} does not make (b, d); "
            f"poolings that fit: {offered}"
        )
    reads = mask is not None and pooling in (*_OF_TOKENS, "attention_filter")
    if reads and mask is not None and tuple(mask.shape) != (shape[0], shape[-2]):
        raise LayerError(
            f"{where}: the output has shape {shape}, and the attention mask {tuple(mask.shape)}: which of its tokens "
            "are padding is not known; name a layer with one state a token, or pooling none or flatten"
        )
    if mask is not None and pooling in _OF_ANY_TOKEN and not bool((mask != 0).any(dim=1).all()):
        raise LayerError(
            f"{where}: a row has no real token, so that it has no features; take empty rows out of the probe"
        )
    return _POOLED[pooling](output, mask.to(output.device) != 0 if reads and mask is not None else None)


def only_tensor(output: object, where: str) -> Tensor:
    """The one tensor of what a layer gave.

    Raises:
        LayerError: There is none, or there are several.
    """
    tensors = list(_tensors(output))
    if len(tensors) != 1:
        raise LayerError(
            f"{where}: gave {structure(output)}, expected one tensor; name a layer whose output is a single tensor, or "
            "one of several outputs of the model as output.KEY"
        )
    return tensors[0]


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (Mapping, tuple, list)):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(value)
