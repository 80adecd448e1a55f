"""What each channel does on its own: spread, tails, range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

BLOCKS = 10  # hash blocks whose maxima tell how much a maximum varies


@dataclass(frozen=True, eq=False)
class Channels:
    """Moments up to the fourth, absolute mean and range of each of d channels; every tensor is float64.

    Attributes:
        n: Rows.
        mean, variance, third, fourth: (d,), central moments with 1/n.
        mean_abs: (d,), mean of |x|.
        low, high: (d,), smallest and largest value.
        block_max: (10, d), largest |x| in each hash block of rows; 0 where a block has no row.
    """

    n: int
    mean: Tensor
    variance: Tensor
    third: Tensor
    fourth: Tensor
    mean_abs: Tensor
    low: Tensor
    high: Tensor
    block_max: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ("mean", "variance", "third", "fourth", "mean_abs")

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        rows = batch.features.double()
        mean = rows.mean(dim=0)
        moved = rows - mean
        square = moved.square()
        size = rows.abs()
        blocks = (batch.hashes % BLOCKS)[:, None].expand_as(size)
        block_max = size.new_zeros(BLOCKS, size.shape[1]).scatter_reduce_(0, blocks, size, "amax")
        return cls(
            len(rows),
            mean,
            square.mean(dim=0),
            (square * moved).mean(dim=0),
            square.square().mean(dim=0),
            size.mean(dim=0),
            rows.amin(dim=0),
            rows.amax(dim=0),
            block_max,
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both (higher central moments as in Pébay 2008)."""
        n = self.n + other.n
        b = other.n / n
        a = 1 - b
        gap = other.mean - self.mean
        variance = a * self.variance + b * other.variance + a * b * gap**2
        third = a * self.third + b * other.third + a * b * (a - b) * gap**3
        third += 3 * a * b * gap * (other.variance - self.variance)
        fourth = a * self.fourth + b * other.fourth + a * b * (a * a - a * b + b * b) * gap**4
        fourth += 6 * a * b * gap**2 * (a * other.variance + b * self.variance)
        fourth += 4 * a * b * gap * (other.third - self.third)
        return type(self)(
            n,
            self.mean + gap * b,
            variance,
            third,
            fourth,
            a * self.mean_abs + b * other.mean_abs,
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
            torch.maximum(self.block_max, other.block_max),
        )

    @property
    def d(self) -> int:
        """Channels."""
        return len(self.mean)

    @property
    def max_abs(self) -> Tensor:
        """Largest |x| of each channel, (d,)."""
        return self.block_max.amax(dim=0)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the channel moments with this gradient, (m,) float64."""
        rows = sample.features.double()
        u = rows - self.mean
        return (
            u @ gradient["mean"]
            + (u**2 - self.variance) @ gradient["variance"]
            + (u**3 - self.third - 3 * self.variance * u) @ gradient["third"]
            + (u**4 - self.fourth - 4 * self.third * u) @ gradient["fourth"]
            + (rows.abs() - self.mean_abs) @ gradient["mean_abs"]
        )
