"""A torch module as a program: what its layers give is kept by forward hooks while it runs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gate.errors import LayerError, ModelError
from gate.inputs import described
from gate.models.flavours.arrays import cast
from gate.pooling import structure
from gate.program import BUILT_IN, Outputs, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import numpy as np

    from gate.inputs import Inputs

_SHOWN = 5
ROWS_AT_ONCE = 256
MASK = "attention_mask"
_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "autocast": torch.bfloat16,
}
_HALVES = (torch.float16, torch.bfloat16)
# What a model raises on a batch that it cannot take. Running out of memory is one of them, and told apart.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to allocate", "bad_alloc")


@dataclass(frozen=True)
class Fed:
    """What a module is called with.

    Attributes:
        args: By position.
        kwargs: By name.
        mask: (b, t), true for a real token, where there are tokens.
        shown: What stands under "input"; None where that is no tensor.
    """

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    mask: Tensor | None = None
    shown: Tensor | None = None


class ModuleProgram:
    """See Program. One input is called by its position, several by their names.

    Args:
        module: Put into evaluation mode, onto the device and into the precision.
        device: Where it runs.
        precision: `bfloat16` converts the module, `autocast` lets torch choose for each operator.
        batch_size: The only number of rows that it takes; None when any number will do.
        input_dtype: What it takes ("float32"); None leaves the inputs as they are.
        feed: What it is called with, for inputs that are no tensors; None for tensors.
        order: Names of several inputs, where they are called by their positions.
        at_once: Rows that it is shown at once where nobody says.
    """

    closed = ""

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str,
        precision: Precision = "float32",
        batch_size: int | None = None,
        input_dtype: str | None = None,
        feed: Callable[[Inputs], Fed] | None = None,
        order: tuple[str, ...] = (),
        at_once: int = ROWS_AT_ONCE,
    ) -> None:
        # A program of torch.export that was not unflattened has no modes; it is what it was exported as.
        with contextlib.suppress(NotImplementedError):
            module.eval()
        self.module = module.to(device)
        if precision == "bfloat16":
            self.module = self.module.to(torch.bfloat16)
        elif any(each.dtype in _HALVES for each in module.parameters()):
            self.module = self.module.float()
        self.batch_size = batch_size
        self.at_once = at_once
        self.rounding = torch.finfo(_DTYPES[precision]).eps / 2
        self._precision = precision
        self._device = device
        self._order = order
        self._dtype = None if input_dtype is None else _dtype(input_dtype)
        if self._dtype in _HALVES:
            self._dtype = torch.float32  # or what the precision makes of it
        self._feed = feed or self._tensors
        self._modules = {path: each for path, each in module.named_modules(remove_duplicate=False) if path}
        self.layers: Collection[str] = [path for path in self._modules if path not in BUILT_IN]

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """See Program."""
        kept: dict[str, list[object]] = {path: [] for path in paths if path not in BUILT_IN}
        with hooked({path: self._modules[path] for path in kept}, lambda path, out: kept[path].append(copied(out))):
            fed, output = self._forward(inputs)
        given: dict[str, Sequence[object]] = {**kept, "output": [output]}
        return Outputs(given if fed.shown is None else {**given, "input": [fed.shown]}, fed.mask)

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """See Program."""
        shapes: dict[str, str] = {}
        named = dict(self.module.named_modules())
        named.pop("", None)
        with hooked(named, lambda path, out: shapes.update({path: structure(out)})):
            fed, output = self._forward(inputs)
        shown = {} if fed.shown is None else {"input": structure(fed.shown)}
        return shapes | shown | {"output": structure(output)}

    def weights_of(self, path: str) -> Mapping[str, Tensor]:
        """See Program."""
        return linear(path, self._modules)

    def _forward(self, inputs: Inputs) -> tuple[Fed, object]:
        with _inference(self._device, self._precision), explained(inputs):
            fed = self._feed(inputs)
            return fed, self.module(*fed.args, **fed.kwargs)

    def _tensors(self, inputs: Inputs) -> Fed:
        if isinstance(inputs, Mapping):
            named = {name: self._tensor(name, each) for name, each in inputs.items()}
            mask = named.get(MASK)
            return Fed(self._in_order(named), mask=mask) if self._order else Fed(kwargs=named, mask=mask)
        if len(self._order) > 1:
            raise ModelError(f"the model takes {len(self._order)} inputs; name a column for each: {self._names()}")
        one = self._tensor("input", inputs)
        # Given as a copy: the model may work in place, and what it was shown is one of its layers.
        return Fed((one.clone(),), shown=one)

    def _in_order(self, named: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        if named.keys() != set(self._order):
            raise ModelError(f"the probe set gives the inputs {sorted(named)}, the model takes: {self._names()}")
        return tuple(named[name] for name in self._order)

    def _names(self) -> str:
        return f"columns: {{input: [{', '.join(self._order)}]}}"

    def _tensor(self, name: str, values: Inputs) -> Tensor:
        if isinstance(values, tuple | Mapping):
            raise ModelError(
                f"the model takes numbers, and {name} of the probe set holds {described(values)}; name a column of "
                "numbers, or for pictures a `transform`, in the probe block"
            )
        own = values if self._dtype is None or self._dtype.is_floating_point else cast(values, _as_numpy(self._dtype))
        batch = torch.tensor(own, device=self._device)
        wanted = self._dtype if self._dtype is not None else batch.dtype
        if self._precision == "bfloat16" and wanted.is_floating_point:
            wanted = torch.bfloat16
        return batch.to(wanted)


@contextlib.contextmanager
def hooked(modules: Mapping[str, nn.Module], seen: Callable[[str, object], None]) -> Iterator[None]:
    """Calls a function with the path and the output of each module every time that it runs inside the block."""
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, path=path: seen(path, out))
        for path, module in modules.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def copied(output: object) -> object:
    """A copy of what a layer gave: a later layer may work in place (ReLU does)."""
    return output.clone() if isinstance(output, Tensor) else copy.deepcopy(output)


def linear(path: str, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weight and, where there is one, bias of a linear layer.

    Raises:
        LayerError: There is no such layer, or it has no weight (C, d).
    """
    weight = getattr(modules.get(path), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        has = "no weight" if not isinstance(weight, Tensor) else f"a weight {tuple(weight.shape)}"
        found = "is not there" if path not in modules else f"has {has}"
        others = [name for name, each in modules.items() if getattr(getattr(each, "weight", None), "ndim", 0) == 2]
        known = f"; with one are: {', '.join(others[-_SHOWN:])}" if others else ""
        raise LayerError(f"layer {path!r}, whose weights are read, {found}, expected a weight (C, d){known}")
    bias = getattr(modules[path], "bias", None)
    both = {"weight": weight, "bias": bias}
    return {name: each.detach().float().cpu() for name, each in both.items() if isinstance(each, Tensor)}


@contextlib.contextmanager
def explained(inputs: Inputs) -> Iterator[None]:
    """What a model raises on a batch becomes a ModelError; a lack of memory becomes a MemoryError.

    Raises:
        ModelError: The model does not run on these inputs.
        MemoryError: There is too little memory for as many rows.
    """
    try:
        yield
    except FAILURES as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300].rstrip(".")
        if isinstance(error, torch.OutOfMemoryError) or any(each in str(error).lower() for each in _NO_MEMORY):
            raise MemoryError(f"out of memory on {described(inputs)}: {reason}") from error
        raise ModelError(
            f"the model does not run on {described(inputs)}: {type(error).__name__}: {reason}. Check columns.input "
            "and shape of the probe set"
        ) from error


@contextlib.contextmanager
def _inference(device: str, precision: Precision) -> Iterator[None]:
    kind = torch.device(device).type
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if kind == "cuda":
            # Convolutions on a GPU round to TF32 unless told otherwise; the evidence says float32.
            exact: Any = torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=precision != "float32"
            )
            stack.enter_context(exact)
        if precision == "autocast":
            stack.enter_context(torch.autocast(kind, torch.bfloat16))
        yield


def _as_numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(f"the model's signature says its input is {name!r}, expected a numeric type such as 'float32'")
    return dtype
