"""What each channel does on its own: spread, tails, range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split, by_tile
from gate.geometry.statistics.moments import column_sums

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

_TILE = 512  # rows of a tile that stays in the cache while it is read several times
BLOCKS = 10  # hash blocks whose maxima tell how much a maximum varies


def _power_sums(tile: Tensor, shift: Tensor) -> Tensor:
    """Sums over the rows of u, u^2, u^3, u^4 for u = x - shift, and of |x|, (5, d) float64."""
    moved = tile - shift
    square = moved.square()
    sums = [column_sums(moved), column_sums(square), column_sums(moved.mul_(square)), column_sums(square.square_())]
    return torch.stack([*sums, column_sums(tile.abs())])


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
        """Of one batch, block by block: rows are moved by the rounded mean of the first of them."""
        rows = batch.features
        n, d = rows.shape
        shift = rows[:_TILE].mean(dim=0, dtype=torch.float64).to(rows.dtype)
        sums = torch.zeros(5, d, dtype=torch.float64, device=rows.device)
        low, high = rows.new_full((BLOCKS, d), torch.inf), rows.new_full((BLOCKS, d), -torch.inf)
        blocks = batch.hashes % BLOCKS
        for block in blocks.unique().tolist():
            for picks in (blocks == block).nonzero()[:, 0].split(_TILE):
                tile = rows.index_select(0, picks)
                low[block] = torch.minimum(low[block], tile.amin(dim=0))
                high[block] = torch.maximum(high[block], tile.amax(dim=0))
                sums += _power_sums(tile, shift)
        first, second, third, fourth, absolute = sums / n
        variance = second - first.square()
        size = torch.maximum(high, -low).double()
        return cls(
            n,
            shift.double() + first,
            variance,
            third - 3 * first * second + 2 * first**3,
            fourth - 4 * first * third + 6 * first.square() * second - 3 * first**4,
            absolute,
            low.amin(dim=0).double(),
            high.amax(dim=0).double(),
            size.where(torch.isfinite(size), 0.0),
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
        first, second = gradient["mean"], gradient["variance"]
        third, fourth, size = gradient["third"], gradient["fourth"], gradient["mean_abs"]
        linear = first - 3 * self.variance * third - 4 * self.third * fourth
        tails, sizes = bool((third != 0).any() or (fourth != 0).any()), bool((size != 0).any())

        def terms(tile: Tensor) -> Tensor:
            rows = tile.double()
            u = rows - self.mean
            square = u.square()
            total = u @ linear + square @ second
            if tails:
                total = total + u.mul_(square) @ third + square.square() @ fourth
            return total + rows.abs() @ size if sizes else total

        centre = self.variance @ second + self.third @ third + self.fourth @ fourth + self.mean_abs @ size
        return by_tile(terms, sample.features) - centre
