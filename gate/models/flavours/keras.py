"""The flavours keras and tensorflow: a model in Keras's own format, whose layers are outputs of a second model."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from gate.errors import LayerError, ModelError
from gate.inputs import described
from gate.models.flavours.arrays import FLOAT32, numbers, require_own_precision, shapes_of
from gate.models.flavours.modules import ROWS_AT_ONCE, explained
from gate.models.flavours.reading import installed, readable
from gate.program import Outputs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor

    from gate.inputs import Inputs
    from gate.models.mlmodel import Declaration
    from gate.models.opening import How


def opened(declared: Declaration, folder: Path, how: How) -> Layers:
    """A model of Keras 3 on whatever backend is installed.

    Raises:
        ModelError: Keras is missing, or the file cannot be read, or holds code (Lambda layers).
    """
    del folder
    require_own_precision(how, "a model of Keras")
    # Weights are those of every backend; torch is here in any case.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if find_spec("tensorflow") else "torch")
    with installed("keras", "keras"):
        import keras
    with readable(declared.weights, "the Keras model"):
        return Layers(keras.saving.load_model(str(declared.weights), compile=False, safe_mode=True))


class Layers:
    """See Program. A layer is a layer of the model, by its name.

    Args:
        model: Of Keras; with inputs that it knows, as functional and sequential models have them.
    """

    batch_size = None
    at_once = ROWS_AT_ONCE
    rounding = FLOAT32

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - of keras, which has no types
        self._model = model
        graph = getattr(model, "inputs", None)
        self._layers = {layer.name: layer for layer in model.layers} if graph else {}
        self.layers: Collection[str] = self._layers.keys()
        self.closed = "" if graph else "a subclassed model of Keras keeps no graph of its layers"
        self._watching: dict[frozenset[str], Any] = {}

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """See Program."""
        if not isinstance(inputs, np.ndarray):
            raise ModelError(f"the model takes one array, and the probe set holds {described(inputs)}")
        wanted = sorted(set(paths) & set(self._layers))
        with explained(inputs):
            found = self._watched(wanted)(inputs, training=False)
        given: dict[str, list[object]] = {name: [_array(found[name])] for name in wanted}
        whole = found["output"]
        given["output"] = [[_array(each) for each in whole] if isinstance(whole, list) else _array(whole)]
        given["input"] = [numbers(inputs, "the probe set")]
        return Outputs(given)

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """See Program."""
        return shapes_of(self.run(inputs, [*self.layers, "output"]))

    def weights_of(self, path: str) -> Mapping[str, Tensor]:
        """See Program."""
        layer = self._layers.get(path)
        weights = [] if layer is None else [_array(each).float() for each in layer.weights]
        match type(layer).__name__, weights:
            case "Dense", [kernel, *bias]:
                return {"weight": kernel.T} | ({"bias": bias[0]} if bias else {})
            case "Embedding", [codes]:
                return {"weight": codes}
        raise LayerError(f"layer {path!r}, whose weights are read, is no Dense and no Embedding layer")

    def _watched(self, names: list[str]) -> Any:  # noqa: ANN401 - of keras
        import keras

        if self.closed:
            return lambda inputs, training: {"output": self._model(inputs, training=training)}
        key = frozenset(names)
        if key not in self._watching:
            outputs = {name: self._layers[name].output for name in names}
            inputs = self._model.inputs
            whole = self._model.outputs
            outputs["output"] = whole[0] if len(whole) == 1 else list(whole)
            self._watching[key] = keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs)
        return self._watching[key]


def _array(value: Any) -> Tensor:  # noqa: ANN401 - a tensor of some backend
    import keras

    return numbers(keras.ops.convert_to_numpy(value), "the model")
