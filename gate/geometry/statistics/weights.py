"""The tensors of the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors of the model by name, such as "head.weight" (C, d), "head.bias" (C,) and "codebook" (K, e).

    They are the same for every row: merging demands that they are equal.
    """

    tensors: Mapping[str, Tensor]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of the model that made a batch."""
        return cls(batch.weights)

    def merge(self, other: Self) -> Self:
        """The same tensors.

        Raises:
            MetricError: The other rows were made by another model.
        """
        names = self.tensors.keys() | other.tensors.keys()
        odd = sorted(name for name in names if not _same(self.tensors.get(name), other.tensors.get(name)))
        if odd:
            raise MetricError(f"all rows must be made by one model, found two versions of {', '.join(odd)}")
        return self

    def matrix(self, name: str) -> Tensor | None:
        """A tensor of two dimensions, float64; None when the model has none of that name.

        Raises:
            MetricError: It has another number of dimensions, or holds a NaN or an infinity.
        """
        found = self.tensors.get(name)
        if found is None:
            return None
        if found.ndim != 2 or 0 in found.shape:
            raise MetricError(f"shape_mismatch: {name} must be a matrix, found shape {tuple(found.shape)}")
        if not bool(torch.isfinite(found).all()):
            raise MetricError(f"nonfinite_weights: {name} holds NaN or infinity; mend the model")
        return found.detach().double()


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return first is second or torch.equal(first, second)
