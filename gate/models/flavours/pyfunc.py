"""The generic flavour: what `predict` gives, and the torch modules that the model's own object holds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from gate.errors import LayerError
from gate.models.flavours.arrays import FLOAT32, cast, numbers, require_own_precision, shapes_of, table
from gate.models.flavours.modules import ROWS_AT_ONCE, copied, explained, hooked, linear
from gate.models.flavours.reading import readable
from gate.program import BUILT_IN, Outputs

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch import Tensor

    from gate.inputs import Inputs
    from gate.models.mlmodel import Declaration
    from gate.models.opening import How


def opened(declared: Declaration, folder: Path, how: How) -> Predictor:
    """A model that has `predict`; runs its pickle or its code, as the policy allows.

    Raises:
        ModelError: It cannot be loaded.
    """
    del declared
    require_own_precision(how, "a generic model")
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    with readable(folder, "the model", MlflowException):
        return Predictor(mlflow.pyfunc.load_model(str(folder)), how.columns)


class Predictor:
    """See Program. Layers are those of torch modules in attributes of the model's own object: `net.encoder.2`.

    Args:
        model: Of `mlflow.pyfunc.load_model`.
        columns: Names of the columns of an array that it is shown, where there are several.
    """

    batch_size = None
    at_once = ROWS_AT_ONCE
    rounding = FLOAT32

    def __init__(self, model: Any, columns: tuple[str, ...] = ()) -> None:  # noqa: ANN401 - of mlflow
        self._model, self._columns = model, columns
        schema = model.metadata.get_input_schema() if model.metadata is not None else None
        self._names = list(schema.input_names()) if schema is not None and schema.has_input_names() else []
        kinds = [] if schema is None or not schema.is_tensor_spec() else schema.numpy_types()
        self._takes_table = bool(self._names) and not kinds
        self._dtype = kinds[0] if len(kinds) == 1 else None
        self._modules = dict(_modules(_native(model)))
        self.layers: Collection[str] = self._modules.keys()
        self.closed = "" if self._modules else "a generic model of MLflow shows only what it predicts"

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """See Program."""
        shown = self._table(inputs)
        kept: dict[str, list[object]] = {path: [] for path in paths if path not in BUILT_IN}
        watched = {path: self._modules[path] for path in kept}
        with hooked(watched, lambda path, out: kept[path].append(copied(out))), explained(inputs), _quiet():
            found = self._predict(shown)
        given: dict[str, list[object]] = {**kept, "output": [_output(found)]}
        if "input" in paths:
            given["input"] = [numbers(shown, "the probe set")]
        return Outputs(given)

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """See Program."""
        return shapes_of(self.run(inputs, [*self.layers, "output"]))

    def weights_of(self, path: str) -> Mapping[str, Tensor]:
        """See Program."""
        if self.closed:
            raise LayerError(f"layer {path!r}: {self.closed}")
        return linear(path, self._modules)

    def _predict(self, shown: Any) -> Any:  # noqa: ANN401 - whatever the model takes and gives
        from mlflow.exceptions import MlflowException

        try:
            return self._model.predict(shown)
        except MlflowException as error:
            raise ValueError(str(error)) from error

    def _table(self, inputs: Inputs) -> Any:  # noqa: ANN401 - an array, a list or a DataFrame
        import pandas as pd

        shown = table(inputs, self._names, self._columns)
        if isinstance(shown, np.ndarray) and self._dtype is not None:
            return cast(shown, np.dtype(self._dtype))
        # A signature of columns without names is one of a table, and a list of texts is one column of it.
        return pd.DataFrame({0: shown}) if isinstance(shown, list) and self._takes_table else shown


def _native(model: Any) -> object:  # noqa: ANN401 - of mlflow
    """The object that the model's author wrote, where MLflow hands it out."""
    from mlflow.exceptions import MlflowException

    for name in ("unwrap_python_model", "get_raw_model"):
        try:
            return getattr(model, name)()
        except (MlflowException, NotImplementedError, AttributeError):
            continue
    return None


def _modules(native: object) -> list[tuple[str, nn.Module]]:
    if isinstance(native, nn.Module):
        return [(path, each) for path, each in native.named_modules() if path]
    held = {name: each for name, each in getattr(native, "__dict__", {}).items() if isinstance(each, nn.Module)}
    return [
        (f"{name}.{path}" if path else name, each) for name, own in held.items() for path, each in own.named_modules()
    ]


def _output(found: Any) -> object:  # noqa: ANN401 - whatever the model gives
    if isinstance(found, Mapping):
        return {str(name): numbers(each, f"output {name!r}") for name, each in found.items()}
    return numbers(found, "the model")


def _quiet() -> warnings.catch_warnings[Any]:
    return warnings.catch_warnings(action="ignore")
