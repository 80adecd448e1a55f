"""The flavour sklearn: what each step of a pipeline gives, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gate.errors import LayerError, ModelError
from gate.models.flavours.arrays import FLOAT32, cast, numbers, require_own_precision, shapes_of, table
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

_HANDED_ON = ("transform", "decision_function", "predict_proba", "predict")  # the first that the last step has
_METHODS = ("transform", "decision_function", "predict_proba", "predict_log_proba")
_SINGLE = "model"  # the name of the one step of what is no pipeline


def opened(declared: Declaration, folder: Path, how: How) -> Steps:
    """An estimator, or a pipeline of them.

    Raises:
        ModelError: The file cannot be read, or holds types that skops does not trust.
    """
    del folder
    require_own_precision(how, "a model of scikit-learn")
    if declared.serialization == "skops":
        return Steps(_skops(declared.weights), declared.input_dtype, how.columns)
    import cloudpickle

    with readable(declared.weights, "the pickled estimator"), declared.weights.open("rb") as file:
        return Steps(cloudpickle.load(file), declared.input_dtype, how.columns)  # the policy allows pickles


def _skops(path: Path) -> Any:  # noqa: ANN401 - what the file holds
    with installed("skops", "sklearn"):
        from skops import io

    with readable(path, "the skops file"):
        strange = sorted(io.get_untrusted_types(file=path))
        if strange:
            raise ModelError(
                f"{path}: holds the types {', '.join(strange)}, which skops does not vouch for; take them out, or log "
                "the model as the pickle that it is: serialization_format='cloudpickle'"
            )
        return io.load(path)


def _of_pairs(step: Any) -> bool:  # noqa: ANN401 - of any class
    """Whether a classifier of several classes decides between each two of them, so that its weights are of pairs."""
    return hasattr(step, "support_vectors_") and len(getattr(step, "classes_", ())) > 2


class Steps:
    """See Program. A layer is `STEP`, what a step hands on, or `STEP.METHOD` of any step.

    Args:
        estimator: A pipeline, or one estimator, whose step is named `model`.
        input_dtype: What it takes by its signature ("float64").
        columns: Names of the columns of an array that it is shown, where there are several.
    """

    closed = ""
    batch_size = None
    at_once = ROWS_AT_ONCE * 16
    rounding = FLOAT32

    def __init__(
        self,
        estimator: Any,  # noqa: ANN401 - of any class
        input_dtype: str | None = None,
        columns: tuple[str, ...] = (),
    ) -> None:
        self._columns = columns
        self._steps: dict[str, Any] = dict(getattr(estimator, "steps", None) or [(_SINGLE, estimator)])
        self._steps = {name: step for name, step in self._steps.items() if step not in (None, "passthrough")}
        if not self._steps or not any(hasattr(step, method) for step in self._steps.values() for method in _HANDED_ON):
            raise ModelError(f"the model is a {type(estimator).__name__}, expected an estimator of scikit-learn")
        self._last = list(self._steps)[-1]
        self._names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        self._dtype = input_dtype
        methods = (f"{n}.{m}" for n, step in self._steps.items() for m in _METHODS if hasattr(step, m))
        self.layers: Collection[str] = [*self._steps, *methods]

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """See Program."""
        given: dict[str, list[object]] = {}
        value = table(inputs, self._names, self._columns)
        if self._dtype and isinstance(value, np.ndarray):
            value = cast(value, np.dtype(self._dtype))
        if "input" in paths:
            given["input"] = [numbers(value, "the probe set")]
        wanted = set(paths)
        with explained(inputs):
            for name, step in self._steps.items():
                asked = (method for method in _METHODS if f"{name}.{method}" in wanted)
                given |= {f"{name}.{each}": [numbers(getattr(step, each)(value), name)] for each in asked}
                if name in wanted or name != self._last or "output" in wanted:
                    value = self._handed_on(name, step, value)
                if name in wanted:
                    given[name] = [numbers(value, name)]
            if "output" in wanted:
                given["output"] = [numbers(value, "the model")]
        return Outputs(given)

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """See Program."""
        return shapes_of(self.run(inputs, [*self.layers, "output"]))

    def weights_of(self, path: str) -> Mapping[str, Tensor]:
        """See Program: the coefficients of a linear step; those of two classes, kept as one row, are two again."""
        step = self._steps.get(path)
        weight = getattr(step, "coef_", None)
        classes = len(getattr(step, "classes_", ()))
        rows = {1, 2} if classes == 2 else {classes} if classes else None  # coefficients may be of pairs of classes
        if weight is None or getattr(weight, "ndim", 0) != 2 or (rows and len(weight) not in rows) or _of_pairs(step):
            raise LayerError(
                f"layer {path!r} is {type(step).__name__}, expected a linear step with coef_ (C, d), a row a class"
            )
        found = {"weight": numbers(weight, path).float()}
        if (bias := getattr(step, "intercept_", None)) is not None:
            found["bias"] = numbers(bias, path).float().reshape(-1)
        if len(weight) == 1 and classes == 2:
            return {name: torch.cat([torch.zeros_like(each), each]) for name, each in found.items()}
        return found

    def _handed_on(self, name: str, step: Any, value: Any) -> Any:  # noqa: ANN401 - of the estimators
        methods = ("transform",) if name != self._last else _HANDED_ON
        method = next((each for each in methods if hasattr(step, each)), None)
        if method is None:
            raise ModelError(f"step {name!r}, a {type(step).__name__}, has none of {', '.join(methods)}")
        return getattr(step, method)(value)
