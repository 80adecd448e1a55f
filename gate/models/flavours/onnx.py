"""The flavour onnx: any tensor of the graph, which becomes one of its outputs before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gate.errors import LayerError, ModelError
from gate.inputs import described
from gate.models.flavours.arrays import FLOAT32, cast, numbers, require_own_precision, shapes_of
from gate.models.flavours.modules import MASK, ROWS_AT_ONCE, explained
from gate.models.flavours.reading import installed, readable
from gate.program import BUILT_IN, Outputs

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch import Tensor

    from gate.inputs import Inputs
    from gate.models.mlmodel import Declaration
    from gate.models.opening import How

_STANDARD = {"", "ai.onnx", "ai.onnx.ml"}
_NUMBERS = (1, 10, 11, 16)  # float, half, double and bfloat16 of onnx.TensorProto
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}  # settings of Gemm that leave the weight what it is
_FOLDER_OF_TENSORS = "session.model_external_initializers_file_folder_path"


def opened(declared: Declaration, folder: Path, how: How) -> Graph:
    """A checked graph of standard operators.

    Raises:
        ModelError: A package is missing, or the file is damaged, or names files outside of the model.
    """
    del folder
    require_own_precision(how, "an ONNX graph")
    with installed("onnx", "onnx"):
        import onnx
    path = declared.weights if declared.weights.is_file() else declared.weights / "model.onnx"
    with readable(path, "the ONNX graph", *_protobuf_errors()):
        graph = onnx.load(str(path), load_external_data=False)
        _refuse_foreign_files(path, graph)
        onnx.checker.check_model(str(path))
        inferred = onnx.shape_inference.infer_shapes(graph)
    return Graph(inferred, path.parent, how.device)


class Graph:
    """See Program. A layer is a tensor of the graph, or a node, which stands for the first of its outputs.

    Args:
        proto: Of onnx, without the tensors that lie in files of their own.
        folder: Where these files are.
        device: Where it runs.
    """

    closed = ""
    rounding = FLOAT32
    at_once = ROWS_AT_ONCE

    def __init__(self, proto: Any, folder: Path, device: str) -> None:  # noqa: ANN401 - of onnx, which has no types
        self._proto, self._folder, self._device = proto, folder, device
        self._own = tuple(each.name for each in proto.graph.output)
        tensors = {out: out for node in proto.graph.node for out in node.output if out}
        named = {node.name: node.output[0] for node in proto.graph.node if node.name and node.output}
        self._tensors = {**named, **tensors}
        self.layers: Collection[str] = self._tensors.keys()
        weights = {each.name for each in proto.graph.initializer}
        self._inputs = {each.name: each.type.tensor_type for each in proto.graph.input if each.name not in weights}
        first = next(iter(self._inputs.values()), None)
        dimensions = [] if first is None else list(first.shape.dim)
        self.batch_size = dimensions[0].dim_value or None if dimensions else None
        self._sessions: dict[frozenset[str], Any] = {}

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """See Program."""
        fed = self._fed(inputs)
        wanted = {path: self._tensors[path] for path in paths if path not in BUILT_IN}
        outputs = list(dict.fromkeys((*self._own, *wanted.values())))
        with explained(inputs):
            found = self._session(frozenset(wanted.values())).run(outputs, fed)
        values = {name: numbers(each, name) for name, each in zip(outputs, found, strict=True)}
        given: dict[str, list[object]] = {path: [values[name]] for path, name in wanted.items()}
        own: object = values[self._own[0]] if len(self._own) == 1 else {name: values[name] for name in self._own}
        given["output"] = [own]
        if len(fed) == 1:
            given["input"] = [torch.from_numpy(next(iter(fed.values())))]
        return Outputs(given, torch.from_numpy(fed[MASK]) != 0 if MASK in fed else None)

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """See Program."""
        floats = {each.name for each in self._proto.graph.value_info if each.type.tensor_type.elem_type in _NUMBERS}
        return shapes_of(self.run(inputs, [*(name for name in self._tensors if name in floats), "output"]))

    def weights_of(self, path: str) -> Mapping[str, Tensor]:
        """See Program: the weights of a node Gemm or MatMul, with those of the Add after it."""
        from onnx import numpy_helper

        node = next((each for each in self._proto.graph.node if path in (each.name, *each.output)), None)
        arrays = {
            each.name: numbers(numpy_helper.to_array(each, base_dir=str(self._folder)), each.name)
            for each in self._proto.graph.initializer
        }
        settings = {} if node is None else {each.name: each.f or each.i for each in node.attribute}
        weight = None if node is None or node.op_type not in ("Gemm", "MatMul") else arrays.get(node.input[1])
        odd = [name for name, plain in _PLAIN.items() if settings.get(name, plain) != plain]
        if node is None or weight is None or weight.ndim != 2 or odd:
            kind = "not there" if node is None else f"a node {node.op_type} {settings or ''}".strip()
            raise LayerError(
                f"layer {path!r}, whose weights are read, is {kind}; expected a plain Gemm or MatMul with a weight"
            )
        found = {"weight": (weight if settings.get("transB") else weight.T).float()}
        after = [each for each in self._proto.graph.node if each.op_type == "Add" and node.output[0] in each.input]
        names = [*node.input[2:3], *(name for each in after for name in each.input)]
        bias = next((arrays[name] for name in names if name in arrays and arrays[name].ndim == 1), None)
        return found if bias is None else {**found, "bias": bias.float()}

    def _fed(self, inputs: Inputs) -> dict[str, Any]:
        given = inputs if isinstance(inputs, Mapping) else {next(iter(self._inputs), "input"): inputs}
        if given.keys() != self._inputs.keys():
            names = ", ".join(self._inputs)
            raise ModelError(
                f"the probe set gives the inputs {sorted(given)}; name a column for each: input: [{names}]"
            )
        return {name: self._array(name, each) for name, each in given.items()}

    def _array(self, name: str, values: Inputs) -> Any:  # noqa: ANN401 - an array of any type
        from onnx import TensorProto, helper

        kind = self._inputs[name].elem_type
        if isinstance(values, tuple) and values and isinstance(values[0], str) and kind == TensorProto.STRING:
            return np.array(values, dtype=object)
        if isinstance(values, tuple | Mapping) or kind == TensorProto.STRING:
            raise ModelError(
                f"the graph takes {TensorProto.DataType.Name(kind)} as {name!r}, found {described(values)}"
            )
        wanted = helper.tensor_dtype_to_np_dtype(kind)
        return np.ascontiguousarray(cast(values, wanted))

    def _session(self, more: frozenset[str]) -> Any:  # noqa: ANN401 - of onnxruntime, which has no types
        if more not in self._sessions:
            with installed("onnxruntime", "onnx"):
                import onnxruntime
            edited = type(self._proto)()
            edited.CopyFrom(self._proto)
            known = {each.name: each for each in self._proto.graph.value_info}
            for name in sorted(more - set(self._own)):
                # A tensor of unknown type is declared by its name alone, and the runtime finds the rest.
                edited.graph.output.append(known.get(name) or type(self._proto.graph.output[0])(name=name))
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry(_FOLDER_OF_TENSORS, str(self._folder))
            with readable(self._folder, "the ONNX graph", *_runtime_errors()):
                self._sessions[more] = onnxruntime.InferenceSession(
                    edited.SerializeToString(), options, providers=self._providers(onnxruntime)
                )
        return self._sessions[more]

    def _providers(self, onnxruntime: Any) -> list[str]:  # noqa: ANN401 - a module
        there = onnxruntime.get_available_providers()
        wanted = ("CUDAExecutionProvider",) if self._device.startswith("cuda") else ()
        return [*(each for each in wanted if each in there), "CPUExecutionProvider"]


def _refuse_foreign_files(path: Path, proto: Any) -> None:  # noqa: ANN401 - of onnx
    nodes, tensors = _everything(proto)
    for tensor in tensors:
        for entry in tensor.external_data:
            place = PurePosixPath(entry.value)
            if entry.key == "location" and (place.is_absolute() or ".." in place.parts):
                raise ModelError(f"{path}: tensor {tensor.name!r} lies at {entry.value!r}, outside of the model folder")
    own = {(each.domain, each.name) for each in proto.functions}  # of operators that are looked at as well
    strange = sorted({each.domain for each in nodes if (each.domain, each.op_type) not in own} - _STANDARD)
    if strange:
        raise ModelError(f"{path}: uses operators of {', '.join(strange)}, expected the standard ones of ONNX alone")


def _everything(proto: Any) -> tuple[list[Any], list[Any]]:  # noqa: ANN401 - of onnx
    """All nodes and tensors, of the graph, of the graphs inside of nodes, and of functions."""
    nodes, tensors = [], [*proto.graph.initializer]
    waiting = [*proto.graph.node, *(node for each in proto.functions for node in each.node)]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for graph in (attribute.g, *attribute.graphs):
                tensors += graph.initializer
                waiting += graph.node
    return nodes, tensors


def _protobuf_errors() -> tuple[type[Exception], ...]:
    from google.protobuf.message import DecodeError
    from onnx.checker import ValidationError
    from onnx.shape_inference import InferenceError

    return (DecodeError, ValidationError, InferenceError)


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
