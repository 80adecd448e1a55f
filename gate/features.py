"""Features of named layers, taken with forward hooks: in evaluation mode, without gradients, one row per sample."""

from __future__ import annotations

import contextlib
import copy
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from gate.errors import LayerError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch.utils.hooks import RemovableHandle

Pooling = Literal["none", "mean", "cls", "last", "max", "flatten", "spatial_mean"]

BUILT_IN = ("input", "output")
_NEAREST = 8
# What a model raises on a batch that it cannot take.
_FORWARD_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class LayerAddress:
    """Where features are taken, and how each sample becomes one row.

    Attributes:
        path: A `named_modules()` path, or "input" or "output" of the whole model.
        pooling: "none" for outputs (b, d); "mean", "cls", "last", "max" over dimension 1 of (b, t, d);
            "spatial_mean" over all dimensions after 1 of (b, c, ...); "flatten" makes (b, ...) one row each.
    """

    path: str
    pooling: Pooling = "none"


class Extractor:
    """Runs a model on batches and returns the features of the layers that were asked for.

    A context manager: its hooks are removed at the end of the block.

    Args:
        module: Put into evaluation mode and onto the device.
        layers: Name -> address; the names are the keys of what a call returns.
        device: Where the model runs.
        batch_size: The only number of rows that the model takes; None when any number will do.
        input_dtype: What the model takes ("float32"); None leaves the inputs as they are.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Mapping[str, LayerAddress],
        *,
        device: str,
        batch_size: int | None,
        input_dtype: str | None = None,
    ) -> None:
        # A program of torch.export that was not unflattened has no modes; it is what it was exported as.
        with contextlib.suppress(NotImplementedError):
            module.eval()
        self._module = module.to(device)
        self._layers = dict(layers)
        self._device = device
        self._batch_size = batch_size
        self._input_dtype = None if input_dtype is None else _dtype(input_dtype)
        self._outputs: dict[str, list[object]] = {}
        self._checked = False
        modules = dict(module.named_modules(remove_duplicate=False))
        paths = dict.fromkeys(address.path for address in self._layers.values())
        self._hooked = tuple(path for path in paths if path and path in modules and path not in BUILT_IN)
        self._unknown = tuple(path for path in paths if path not in (*self._hooked, *BUILT_IN))
        self._hooks: list[RemovableHandle] = [
            modules[path].register_forward_hook(self._keeper(path)) for path in self._hooked
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def __call__(self, inputs: np.ndarray[Any, Any]) -> dict[str, Tensor]:
        """Features of one batch. The first batch is run twice: what differs between two passes is no feature.

        Args:
            inputs: (b, ...), b >= 1.

        Returns:
            Name -> (b, d) on the device, in the dtype of the layer's output; integers become float32.

        Raises:
            LayerError: A layer does not exist, does not run exactly once, gives no tensor or an ambiguous one, needs
                another pooling, or gives other features in a second pass.
            ModelError: The model does not run on these inputs.
        """
        with torch.inference_mode():
            batch = self._tensor(inputs)
            if self._unknown:
                raise self._no_such_layer(batch)
            features = self._features(batch)
            if not self._checked:
                self._require_repeatable(features, self._features(batch))
                self._checked = True
        # Copies made outside the block are ordinary tensors, which autograd accepts.
        return {name: rows.clone() for name, rows in features.items()}

    def _tensor(self, inputs: np.ndarray[Any, Any]) -> Tensor:
        batch = torch.tensor(inputs, device=self._device)
        wanted = self._input_dtype
        if wanted is None or batch.dtype == wanted:
            return batch
        if batch.is_floating_point() and not wanted.is_floating_point:
            raise ModelError(f"the model takes {wanted}, the probe set holds {batch.dtype}; give it whole numbers")
        return batch.to(wanted)

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        parts = [self._chunk(chunk) for chunk in self._chunks(batch)]
        return {name: torch.cat([part[name] for part in parts])[: len(batch)] for name in self._layers}

    def _chunks(self, batch: Tensor) -> Iterator[Tensor]:
        """The batch in the sizes that the model takes; the last one is filled up with its own last row."""
        size = self._batch_size or len(batch)
        for chunk in torch.split(batch, size):
            missing = size - len(chunk)
            yield torch.cat([chunk, chunk[-1:].expand(missing, *chunk.shape[1:])]) if missing else chunk

    def _chunk(self, chunk: Tensor) -> dict[str, Tensor]:
        self._outputs = {path: [] for path in self._hooked}
        self._outputs["output"] = [self._forward(chunk)]
        self._outputs["input"] = [chunk]
        features = {name: self._rows(name, address, len(chunk)) for name, address in self._layers.items()}
        self._outputs = {}
        return features

    def _forward(self, batch: Tensor) -> object:
        try:
            with _exact_float32(self._device):
                return self._module(batch.clone())
        except _FORWARD_FAILURES as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
            raise ModelError(
                f"the model does not run on a batch of shape {tuple(batch.shape)}, {batch.dtype}: "
                f"{type(error).__name__}: {reason}. Check columns.input and shape of the probe set"
            ) from error

    def _keeper(self, path: str) -> Callable[[nn.Module, object, object], None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            if path in self._outputs:
                # A later layer may work in place (ReLU does), so what is kept must be a copy.
                self._outputs[path].append(_copied(output))

        return keep

    def _rows(self, name: str, address: LayerAddress, count: int) -> Tensor:
        where = f"layer {name!r} (path {address.path!r})"
        outputs = self._outputs[address.path]
        if len(outputs) != 1:
            raise LayerError(
                f"{where}: ran {len(outputs)} times in one forward pass, expected once; "
                "name a layer around it or 'output'"
            )
        output = _only_tensor(outputs[0], where)
        rows = _pool(output, address.pooling, where)
        if rows.shape[0] != count:
            raise LayerError(
                f"{where}: gave {rows.shape[0]} rows for {count} samples (output shape {tuple(output.shape)}); "
                "the first dimension must be the batch"
            )
        return rows if rows.is_floating_point() else rows.to(torch.float32)

    def _require_repeatable(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
        for name, rows in first.items():
            if not _same(rows, second[name]):
                raise LayerError(
                    f"layer {name!r} (path {self._layers[name].path!r}): two passes over the same batch gave different "
                    "features (exported in training mode? dropout left on?); call model.eval() and log the model again"
                )

    def _no_such_layer(self, batch: Tensor) -> LayerError:
        shapes = self._shapes(next(iter(self._chunks(batch))))
        wanted = self._unknown[0]
        nearest = difflib.get_close_matches(wanted, shapes, n=_NEAREST, cutoff=0.0)
        listed = ", ".join(f"{path!r} {shapes[path]}" for path in nearest)
        name = next(name for name, address in self._layers.items() if address.path == wanted)
        return LayerError(
            f"layer {name!r}: the model has no layer {wanted!r}; the nearest of its {len(shapes)} layers, with the "
            f"shapes of their outputs, are: {listed}"
        )

    def _shapes(self, batch: Tensor) -> dict[str, str]:
        """Path -> what it gives on this batch, for every module that runs, and for "input" and "output"."""
        shapes: dict[str, str] = {}
        hooks = [
            module.register_forward_hook(lambda _m, _i, out, path=path: shapes.update({path: _structure(out)}))
            for path, module in self._module.named_modules()
            if path
        ]
        try:
            output = self._forward(batch)
        finally:
            for hook in hooks:
                hook.remove()
        return shapes | {"input": _structure(batch), "output": _structure(output)}


def _exact_float32(device: str) -> contextlib.AbstractContextManager[Any]:
    """Convolutions on a GPU round to TF32 unless told otherwise; the evidence says float32."""
    if torch.device(device).type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(f"the model's signature says its input is {name!r}, expected a numeric type such as 'float32'")
    return dtype


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


def _same(first: Tensor, second: Tensor) -> bool:
    """Equal up to the order of summation; a feature that is NaN twice is the statistics' affair."""
    scale = first.nan_to_num(posinf=0.0, neginf=0.0).abs().max().item()
    return torch.allclose(first, second, rtol=1e-3, atol=1e-5 * scale, equal_nan=True)


def _only_tensor(output: object, where: str) -> Tensor:
    tensors = list(_tensors(output))
    if len(tensors) != 1:
        raise LayerError(
            f"{where}: gave {_structure(output)}, expected one tensor; name a layer whose output is a single tensor"
        )
    return tensors[0]


def _copied(output: object) -> object:
    return output.clone() if isinstance(output, Tensor) else copy.deepcopy(output)


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (Mapping, tuple, list)):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(value)


def _structure(output: object) -> str:
    """A short description: "(8, 64)", "tuple((8, 5, 64), None)", "dict(logits: (8, 10))"."""
    kind = type(output).__name__
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        return f"{kind}({', '.join(f'{key}: {_structure(value)}' for key, value in output.items())})"
    if isinstance(output, (tuple, list)):
        return f"{kind}({', '.join(map(_structure, output))})"
    return "None" if output is None else kind
