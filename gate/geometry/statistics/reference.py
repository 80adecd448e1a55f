"""Class means and pooled covariance of the reference rows: what a row is in or out of distribution of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.classes import ClassMoments
from gate.geometry.statistics.columns import Codes, place, union
from gate.geometry.statistics.moments import mirrored


@dataclass(frozen=True, eq=False)
class ReferenceClasses:
    """Count and mean of each class of the reference rows, and their pooled covariance about the class means.

    The covariance is summed over rows less the mean of their own class, never as a difference of the total and the
    between-class covariance: that would lose a tight class between far means to rounding.

    Attributes:
        names: C class names, sorted.
        counts: (C,) int64.
        means: (C, d) float64.
        pooled: (d, d) float64, within-class covariance with 1/n.
        resolution: Spread, relative to the means, at or below which it is rounding noise.
    """

    names: tuple[str, ...]
    counts: Tensor
    means: Tensor
    pooled: Tensor
    resolution: float

    split: ClassVar[Split] = "reference"
    needs: ClassVar[tuple[str, ...]] = ("labels",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        return cls.of_rows(batch.features, batch.class_codes(), batch.resolution)

    @classmethod
    def of_rows(cls, rows: Tensor, codes: Codes, resolution: float) -> Self:
        """Of rows (n, d) and the class of each, moved by rounded class means: tight classes stay exact."""
        d = rows.shape[1]
        scatter = torch.zeros(d, d, dtype=torch.float64, device=rows.device)
        classes = ClassMoments.scattered(rows, codes, None, scatter)
        return cls(codes.names, classes.counts, classes.means, mirrored(scatter) / max(len(rows), 1), resolution)

    def merge(self, other: Self) -> Self:
        """Of the rows of both (pairwise update of Chan, Golub and LeVeque 1979, class by class)."""
        names = union(self.names, other.names)
        first, second = self._spread_over(names), other._spread_over(names)
        counts = first.counts + second.counts
        weight = second.counts.double() / counts.clamp_min(1)
        gap = second.means - first.means
        between = (gap * (weight * first.counts)[:, None]).T @ gap
        n = int(counts.sum())
        pooled = (self.pooled * self.n + other.pooled * other.n + between) / max(n, 1)
        resolution = max(self.resolution, other.resolution)
        return type(self)(names, counts, first.means + gap * weight[:, None], pooled, resolution)

    def _spread_over(self, names: tuple[str, ...]) -> Self:
        if names == self.names:
            return self
        where = place(self.names, names, self.counts.device)
        counts = self.counts.new_zeros(len(names)).index_copy_(0, where, self.counts)
        means = self.means.new_zeros(len(names), self.d).index_copy_(0, where, self.means)
        return type(self)(names, counts, means, self.pooled, self.resolution)

    @property
    def n(self) -> int:
        """Rows of all classes."""
        return int(self.counts.sum())

    @property
    def d(self) -> int:
        """Feature dimension."""
        return self.means.shape[1]

    def is_tight(self) -> bool:
        """Whether the rows of every class are equal up to rounding."""
        shares = self.counts.double() / max(self.n, 1)
        size = (shares @ self.means.square().sum(dim=1)).item()
        spread = self.pooled.diagonal().sum().item()
        return not spread > self.resolution**2 * max(size, torch.finfo(torch.float64).tiny)
