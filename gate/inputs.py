"""What a model can be shown: arrays, texts, pictures of any size, or several of these by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from gate.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Inputs = Array | tuple[str, ...] | tuple[Array, ...] | Mapping[str, "Inputs"]
    """One entry for each of b rows: an array (b, ...), b texts, b pictures (height, width, 3) uint8, or some of these
    by name, where the model takes several inputs or a table."""


def count(inputs: Inputs) -> int:
    """b, the number of rows.

    Raises:
        ModelError: Named inputs differ in it, or there are none.
    """
    if not isinstance(inputs, Mapping):
        return len(inputs)
    counts = {name: count(each) for name, each in inputs.items()}
    if len(set(counts.values())) != 1:
        raise ModelError(f"named inputs must have as many rows as each other, found {counts}")
    return next(iter(counts.values()))


def take(inputs: Inputs, rows: Sequence[int]) -> Inputs:
    """Some of the rows, in this order; a row may come twice."""
    if isinstance(inputs, Mapping):
        return {name: take(each, rows) for name, each in inputs.items()}
    if isinstance(inputs, tuple):
        return cast("Inputs", tuple(inputs[row] for row in rows))
    return inputs[list(rows)]


def described(inputs: Inputs) -> str:
    """What was shown, in short: "(8, 3, 32, 32) float32", "8 texts", "8 pictures", "x: (8, 4) float32, y: 8 texts"."""
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name}: {described(each)}" for name, each in inputs.items())
    if isinstance(inputs, tuple):
        return f"{len(inputs)} {'texts' if inputs and isinstance(inputs[0], str) else 'pictures'}"
    return f"{inputs.shape} {inputs.dtype}"
