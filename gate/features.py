"""Features of named layers, taken with forward hooks: in evaluation mode, without gradients, one row per sample."""

from __future__ import annotations

import contextlib
import copy
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from gate.errors import LayerError, ModelError
from gate.pooling import Pooling, rows_of, structure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from torch.utils.hooks import RemovableHandle

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

    A context manager. A block that ends without an error ends with the first batch once more, and raises LayerError
    when its features are no longer what they were; the hooks are removed at the end of every block.

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
        self._first_shapes: dict[str, torch.Size] = {}
        self._first: tuple[Tensor, dict[str, Tensor]] | None = None
        modules = dict(module.named_modules(remove_duplicate=False))
        paths = dict.fromkeys(address.path for address in self._layers.values())
        self._hooked = tuple(path for path in paths if path and path in modules and path not in BUILT_IN)
        self._unknown = tuple(path for path in paths if path not in (*self._hooked, *BUILT_IN))
        self._hooks: list[RemovableHandle] = [
            modules[path].register_forward_hook(self._keeper(path)) for path in self._hooked
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._require_unchanged()
        finally:
            while self._hooks:
                self._hooks.pop().remove()

    def __call__(self, inputs: np.ndarray[Any, Any]) -> dict[str, Tensor]:
        """Features of one batch. Of the first batch, features that are no property of a row alone are refused.

        Args:
            inputs: (b, ...), b >= 1.

        Returns:
            Name -> (b, d) on the device, in the dtype of the layer's output; integers become float32.

        Raises:
            LayerError: A layer does not exist, does not run exactly once, gives no tensor or an ambiguous one, needs
                another pooling, gives rows of another width than before, or other features for the same rows.
            ModelError: The model does not run on these inputs.
        """
        with torch.inference_mode():
            batch = self._tensor(inputs)
            if self._unknown:
                raise self._no_such_layer(batch)
            features = self._features(batch)
            if self._first is None:
                self._require_repeatable(batch, features)
                self._first = batch, features
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
        rows = rows_of(outputs[0], address.pooling, count=count, where=where)
        first = self._first_shapes.setdefault(name, rows.shape)
        if rows.shape[1:] != first[1:]:
            raise LayerError(
                f"{where}: gave features of shape {tuple(rows.shape)} after features of shape {tuple(first)}; "
                "every row needs as many values, so name a layer or a pooling whose width does not change"
            )
        return rows

    def _require_repeatable(self, batch: Tensor, features: dict[str, Tensor]) -> None:
        """Features are those of a row alone: neither chance nor its neighbours and its place in the batch count."""
        self._require_same(batch, features, features, "a second pass over the same batch")
        # Half of what the model runs at once: where it takes full batches only, the other rows become padding.
        half = (min(self._batch_size or len(batch), len(batch)) + 1) // 2
        part = {name: rows[:half].flip(0) for name, rows in features.items()}
        what = f"the first {half} of {len(batch)} rows on their own, in reversed order,"
        self._require_same(batch[:half].flip(0), part, features, what)

    def _require_unchanged(self) -> None:
        if self._first is None:
            return
        batch, features = self._first
        with torch.inference_mode():
            self._require_same(batch, features, features, "the first batch, run again after the last one,")

    def _require_same(self, batch: Tensor, expected: dict[str, Tensor], whole: dict[str, Tensor], what: str) -> None:
        for name, found in self._features(batch).items():
            different = _different(expected[name], found, whole[name])
            if different:
                raise LayerError(
                    f"layer {name!r} (path {self._layers[name].path!r}): {what} gave other features than before, in "
                    f"{different} of {found.numel()} values (exported in training mode, or dropout left on? state that "
                    "changes between calls? normalisation over the batch?); features must depend on their row alone: "
                    "call model.eval(), take such state or normalisation out, and log the model again"
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
            module.register_forward_hook(lambda _m, _i, out, path=path: shapes.update({path: structure(out)}))
            for path, module in self._module.named_modules()
            if path
        ]
        try:
            output = self._forward(batch)
        finally:
            for hook in hooks:
                hook.remove()
        return shapes | {"input": structure(batch), "output": structure(output)}


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


def _different(expected: Tensor, found: Tensor, whole: Tensor) -> int:
    """How many values differ by more than the order of summation explains.

    Measured by the spread over the rows of the whole batch, never by the values: beside a large offset, a change as
    large as the spread is small. The values count only for the rounding of their own channel. A feature that is NaN
    twice is the statistics' affair.
    """
    values = whole.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    spread = values.std(dim=0, correction=0)
    rounding = max(1e-5, 4 * torch.finfo(whole.dtype).eps) * values.abs().amax(dim=0)
    # The median: a channel that hardly varies beside the others carries their rounding, and few huge ones hide nothing.
    allowed = 1e-3 * torch.maximum(spread, spread.median()) + rounding
    first, second = expected.double(), found.double()
    same = (first == second) | (first.isnan() & second.isnan()) | ((first - second).abs() <= allowed)
    return int((~same).sum())


def _copied(output: object) -> object:
    return output.clone() if isinstance(output, Tensor) else copy.deepcopy(output)
