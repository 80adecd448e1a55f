"""Counts over all rows: are they finite, are they repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

_NAMED = 5


@dataclass(frozen=True, eq=False)
class RowCensus:
    """How many rows there are, of which dimension, and how many hold a NaN or an infinity.

    Attributes:
        n: Rows.
        d: Feature dimension.
        nonfinite: Rows with a value that is not finite.
        first: (hash, id) of at most 5 of them, those with the lowest hashes.
    """

    n: int
    d: int
    nonfinite: int
    first: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        bad = (~torch.isfinite(batch.features).all(dim=1)).nonzero()[:, 0].tolist()
        first = sorted((int(batch.hashes[row]), batch.ids[row]) for row in bad)
        return cls(len(batch.ids), batch.features.shape[1], len(bad), tuple(first[:_NAMED]))

    def merge(self, other: Self) -> Self:
        """Of the rows of both.

        Raises:
            MetricError: The rows have different dimensions.
        """
        if self.d != other.d:
            raise MetricError(f"feature rows of one layer must have one dimension, found {self.d} and {other.d}")
        first = tuple(sorted(self.first + other.first)[:_NAMED])
        return type(self)(self.n + other.n, self.d, self.nonfinite + other.nonfinite, first)

    def require_finite(self) -> None:
        """Refuses features that no metric is defined on.

        Raises:
            MetricError: A row holds a NaN or an infinity.
        """
        if self.nonfinite:
            ids = ", ".join(repr(name) for _, name in self.first)
            raise MetricError(
                f"nonfinite_rows: {self.nonfinite} of {self.n} feature rows hold NaN or infinity (first ids: {ids}); "
                "no metric is defined on them, mend the model or the probe set"
            )


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The fingerprint of every row, (n,) int64 in any order: 8 bytes a row."""

    values: Tensor

    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls(batch.fingerprints)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(torch.cat([self.values, other.values]))

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.values)

    def repeated(self) -> tuple[Tensor, int]:
        """The fingerprints that occur more than once, and how many rows have one of them."""
        values, counts = self.values.unique(return_counts=True)
        return values[counts > 1], int(counts[counts > 1].sum())

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """Nothing: a share of rows gives its own terms."""
        del gradient
        return torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
