"""Mean and covariance of feature rows, and of unit rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, per_live_row, unit_rows

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

_TILE = 4096  # rows of a Gram product in the features' own precision, before it is added in float64


def gram(rows: Tensor) -> Tensor:
    """Sum of outer products of the rows, (d, d) float64."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for tile in rows.split(_TILE):
        total += tile.T @ tile
    return total


@dataclass(frozen=True, eq=False)
class Moments:
    """Row count, mean and covariance of feature rows.

    Attributes:
        n: Rows.
        mean: (d,) float64.
        covariance: (d, d) float64, with 1/n.
        resolution: Spread, relative to the mean, at or below which it is rounding noise.
    """

    n: int
    mean: Tensor
    covariance: Tensor
    resolution: float

    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ("mean", "covariance")

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch: rows are moved by their rounded mean first, so that no offset eats digits."""
        return cls._of_rows(batch.features, batch.resolution)

    @classmethod
    def _of_rows(cls, rows: Tensor, resolution: float) -> Self:
        n, d = rows.shape
        if n == 0:
            zero = torch.zeros(d, dtype=torch.float64, device=rows.device)
            return cls(0, zero, zero.expand(d, d).clone(), resolution)
        shift = rows.mean(dim=0, dtype=torch.float64).to(rows.dtype)
        moved = rows - shift
        rest = moved.mean(dim=0, dtype=torch.float64)
        covariance = gram(moved) / n - torch.outer(rest, rest)
        return cls(n, shift.double() + rest, covariance, resolution)

    def merge(self, other: Self) -> Self:
        """Of the rows of both (pairwise update of Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        if 0 in (self.n, other.n):
            return self if other.n == 0 else other
        gap = other.mean - self.mean
        weight = other.n / n
        covariance = self.covariance * (1 - weight) + other.covariance * weight
        covariance += torch.outer(gap, gap) * (weight * (1 - weight))
        return type(self)(n, self.mean + gap * weight, covariance, max(self.resolution, other.resolution))

    @property
    def d(self) -> int:
        """Feature dimension."""
        return len(self.mean)

    def is_constant(self) -> bool:
        """Whether the rows do not vary by more than rounding."""
        spread = self.covariance.diagonal().sum().item()
        return not spread > self.resolution**2 * max((self.mean @ self.mean).item(), torch.finfo(torch.float64).tiny)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the moments with this gradient, (m,) float64."""
        return self._influence(gradient, sample.features.double())

    def _influence(self, gradient: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        moved = rows - self.mean
        quadratic = gradient["covariance"]
        return moved @ gradient["mean"] + ((moved @ quadratic) * moved).sum(dim=1) - (quadratic * self.covariance).sum()


class UnitMoments(Moments):
    """Moments of the unit rows x / |x|; zero rows have no direction and are left out."""

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        rows, alive = unit_rows(batch.features)
        return cls._of_rows(rows[alive], batch.resolution)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `Moments`, over the rows that have a direction."""
        rows, alive = unit_rows(sample.features.double())
        return per_live_row(self._influence(gradient, rows), alive)
