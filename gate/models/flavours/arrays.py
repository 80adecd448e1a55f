"""What models outside of torch take and give: arrays, tables and whatever becomes a tensor of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gate.errors import ModelError
from gate.inputs import described
from gate.pooling import structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.inputs import Inputs
    from gate.models.opening import How
    from gate.program import Outputs

FLOAT32 = 2.0**-24


def require_own_precision(how: How, what: str) -> None:
    """Refuses to compute in another precision than that of the file, which only modules of torch can.

    Args:
        how: The model is to be run.
        what: It is, for the message.

    Raises:
        ModelError: Another precision is asked for.
    """
    if how.precision != "float32":
        raise ModelError(f"run.precision is {how.precision!r}, and {what} has its own; leave it out")


def shapes_of(outputs: Outputs) -> dict[str, str]:
    """Layer → what it gave, of those that ran once."""
    return {path: structure(each[0]) for path, each in outputs.given.items() if len(each) == 1}


def table(inputs: Inputs, names: Sequence[str] = (), given: Sequence[str] = ()) -> Any:  # noqa: ANN401 - an array, a list or a DataFrame
    """Inputs as libraries for tables take them: an array, a list of texts, or a DataFrame.

    Args:
        inputs: Of b rows.
        names: Of the columns that the model expects; an array of as many columns becomes a table of them.
        given: Names of the columns of an array, in its order, where it was made of several: the model gets them in its
            own order.

    Raises:
        ModelError: Pictures, or columns that are no numbers or texts.
    """
    import pandas as pd

    if isinstance(inputs, Mapping):
        columns = {name: _column(name, each) for name, each in inputs.items()}
        if names and set(names) - columns.keys():
            missing = sorted(set(names) - columns.keys())
            raise ModelError(f"the model takes the columns {list(names)}, the probe set gives no {missing}")
        return pd.DataFrame(columns)[list(names) or list(columns)]
    if isinstance(inputs, tuple):
        if not isinstance(inputs[0], str):
            raise ModelError("the model takes tables or texts, and the probe set holds pictures; use a `transform`")
        return list(inputs)
    if not names or inputs.ndim != 2:
        return inputs
    if len(given) > 1 and set(given) != set(names):
        raise ModelError(f"the model takes the columns {list(names)}, the probe set gives {list(given)}; name the same")
    if inputs.shape[1] != len(names):
        raise ModelError(f"the model takes the {len(names)} columns {list(names)}, the input has {inputs.shape[1]}")
    return pd.DataFrame(inputs, columns=list(given if len(given) > 1 else names))[list(names)]


def cast(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Numbers in the type that a model takes; a loss of digits to rounding is allowed, another number is not.

    Raises:
        ModelError: Fractions for whole numbers, or numbers that the type cannot hold.
    """
    if values.dtype == dtype:
        return values
    if values.dtype.kind == "f" and dtype.kind not in "fc":
        raise ModelError(f"the model takes {dtype}, the probe set holds {values.dtype}; give it whole numbers")
    if dtype.kind in "iu" and values.dtype.kind in "iu" and values.size:
        limits, low, high = np.iinfo(dtype), int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise ModelError(f"the model takes {dtype}, and the probe set holds {low} to {high}; rescale its input")
    return values.astype(dtype)


def numbers(found: Any, what: str) -> Tensor:  # noqa: ANN401 - whatever a model gives
    """What a model gave as a tensor of numbers, the first dimension that of the rows.

    Args:
        found: An array, a sparse matrix, a DataFrame, a list of rows or a tensor.
        what: Gave it, for the message.

    Raises:
        ModelError: These are no numbers.
    """
    if isinstance(found, Tensor):
        return found.detach().cpu()
    dense = found.toarray() if hasattr(found, "toarray") else found
    array = np.asarray(dense.to_numpy() if hasattr(dense, "to_numpy") else dense)
    if array.dtype == object:
        try:
            array = np.asarray([np.asarray(row, dtype=np.float64) for row in array])
        except (TypeError, ValueError) as error:
            raise ModelError(f"{what} gave {type(found).__name__} of other things than numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise ModelError(f"{what} gave values of type {array.dtype}, expected numbers; name a step that gives numbers")
    return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype.kind == "b" else None))


def _column(name: str, values: Inputs) -> Any:  # noqa: ANN401 - an array or a list
    if isinstance(values, Mapping) or (isinstance(values, tuple) and not isinstance(values[0], str)):
        raise ModelError(f"column {name!r} holds {described(values)}, expected numbers or texts")
    return list(values) if isinstance(values, tuple) or values.ndim > 1 else values
