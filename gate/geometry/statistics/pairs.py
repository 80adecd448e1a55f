"""Two sets of features of the same rows: what a comparison of two versions needs, from one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import IN_CACHE, Batch, Split, by_tile, row_lengths
from gate.geometry.statistics.moments import add_upper, centred, column_sums, mirrored, moved_tiles

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


class Tile(NamedTuple):
    """Rows about their mean (t, d), and the squared length of each (t,) float64."""

    rows: Tensor
    sizes: Tensor


@dataclass(frozen=True, eq=False)
class Centred:
    """Rows (n, d) and their mean (d,) float64."""

    rows: Tensor
    mean: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """With their mean, summed about the rounded mean of the first of them."""
        total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
        if len(rows) == 0:
            return cls(rows, total)
        shift = rows[:IN_CACHE].mean(dim=0, dtype=torch.float64).to(rows.dtype)
        for tile in moved_tiles(rows, shift):
            total += column_sums(tile)
        return cls(rows, shift.double() + total / len(rows))

    def tiles(self) -> Iterator[Tile]:
        """In their own precision less the mean: first as it is rounded, then what that is off by."""
        shift = self.mean.to(self.rows.dtype)
        rest = (self.mean - shift.double()).to(self.rows.dtype)
        for tile in moved_tiles(self.rows, shift):
            tile.sub_(rest)
            yield Tile(tile, row_lengths(tile).double().square())


@dataclass(frozen=True, eq=False)
class PairSums:
    """Running sums over tiles of rows u and v of two sets about their means.

    Attributes:
        cross: (d, e), of u v^T; the upper half of it where both are one.
        spreads: Of |u|^2 and of |v|^2.
        thirds: (d,), (e,), of u |v|^2 and of v |u|^2.
        fourth: Of |u|^2 |v|^2.
    """

    cross: Tensor
    spreads: tuple[Tensor, Tensor]
    thirds: tuple[Tensor, Tensor]
    fourth: Tensor

    @classmethod
    def of(cls, x: Centred, y: Centred) -> Self:
        """Of no tile yet."""
        cross = torch.zeros(len(x.mean), len(y.mean), dtype=torch.float64, device=x.mean.device)
        zero, other, third = (cross.new_zeros(()) for _ in range(3))
        return cls(cross, (zero, other), (torch.zeros_like(x.mean), torch.zeros_like(y.mean)), third)

    def add(self, u: Tile, v: Tile) -> None:
        """Adds a tile of each; the same one twice where both sets are one."""
        common = torch.promote_types(u.rows.dtype, v.rows.dtype)
        for total, tile, other in ((0, u, v), (1, v, u)):
            self.spreads[total].add_(tile.sizes.sum())
            self.thirds[total].add_(other.sizes.to(common) @ tile.rows.to(common))
        self.fourth.add_(u.sizes @ v.sizes)
        if u is v:
            add_upper(self.cross, u.rows)
        else:
            self.cross.add_(u.rows.to(common).T @ v.rows.to(common))


@dataclass(frozen=True, eq=False)
class PairMoments:
    """Cross-covariance of two sets of features x (n, d) and y (n, e) of the same rows, and what debiased HSIC needs.

    All moments are about the means, with 1/n, float64: u = x - mean of x, v = y - mean of y.

    Attributes:
        n: Rows.
        mean_x, mean_y: (d,), (e,).
        cross: (d, e), mean of u v^T.
        spread_x, spread_y: Scalars, mean |u|^2 and mean |v|^2.
        third_x, third_y: (d,), (e,), mean of u |v|^2 and of v |u|^2.
        fourth: Scalar, mean of |u|^2 |v|^2.
        resolution: Spread, relative to the mean, at or below which it is rounding noise.
    """

    n: int
    mean_x: Tensor
    mean_y: Tensor
    cross: Tensor
    spread_x: Tensor
    spread_y: Tensor
    third_x: Tensor
    third_y: Tensor
    fourth: Tensor
    resolution: float

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ("cross", "spread_x", "spread_y", "fourth")
    first: ClassVar[str] = "features"
    second: ClassVar[str] = "features"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls.of_rows(batch.numbers(cls.first), batch.numbers(cls.second), batch.resolution)

    @classmethod
    def of_rows(cls, x: Tensor, y: Tensor, resolution: float) -> Self:
        """Of rows x (n, d) and y (n, e), each moved by its rounded mean first, so that no offset eats digits."""
        first = Centred.of(x)
        second = first if y is x else Centred.of(y)
        sums = PairSums.of(first, second)
        tiles = ((tile, tile) for tile in first.tiles()) if y is x else zip(first.tiles(), second.tiles(), strict=True)
        for u, v in tiles:
            sums.add(u, v)
        return cls.of_sums(sums, first, second, resolution)

    @classmethod
    def of_sums(cls, sums: PairSums, x: Centred, y: Centred, resolution: float) -> Self:
        """Of the sums over all tiles of both."""
        n = len(x.rows)
        cross = mirrored(sums.cross) if x is y else sums.cross
        spread_x, spread_y, third_x, third_y = (each / max(n, 1) for each in (*sums.spreads, *sums.thirds))
        return cls(
            n,
            x.mean,
            y.mean,
            cross / max(n, 1),
            spread_x,
            spread_y,
            third_x,
            third_y,
            sums.fourth / max(n, 1),
            resolution,
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both: each part is moved to the common means, which lie as near as the parts are alike."""
        if 0 in (self.n, other.n):
            return self if other.n == 0 else other
        n = self.n + other.n
        weight = other.n / n
        gap_x, gap_y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        mine = self._moved(-weight * gap_x, -weight * gap_y)
        others = other._moved((1 - weight) * gap_x, (1 - weight) * gap_y)
        spread_x, spread_y, third_x, third_y, fourth = (a.lerp(b, weight) for a, b in zip(mine, others, strict=True))
        return type(self)(
            n,
            self.mean_x + weight * gap_x,
            self.mean_y + weight * gap_y,
            self.cross.lerp(other.cross, weight).addr_(gap_x, gap_y, alpha=weight * (1 - weight)),
            spread_x,
            spread_y,
            third_x,
            third_y,
            fourth,
            max(self.resolution, other.resolution),
        )

    def _moved(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Spreads, third and fourth moments of u + p and v + q (expanded; the means of u and v are 0)."""
        cross_q, p_cross = self.cross @ q, p @ self.cross
        p_square, q_square = p @ p, q @ q
        fourth = self.fourth + 2 * (q @ self.third_y + p @ self.third_x) + 4 * (p @ cross_q)
        return (
            self.spread_x + p_square,
            self.spread_y + q_square,
            self.third_x + 2 * cross_q + p * (self.spread_y + q_square),
            self.third_y + 2 * p_cross + q * (self.spread_x + p_square),
            fourth + q_square * self.spread_x + p_square * self.spread_y + p_square * q_square,
        )

    @property
    def hsic(self) -> Tensor:
        """Unbiased HSIC with linear kernels, scalar: an estimate of |cross|_F^2, for n >= 4.

        Song et al. 2012 in feature space: about the means, the sums of the Gram matrices with a zero diagonal are
        -n spread_x, -n spread_y and n fourth.
        """
        n = self.n
        diagonal = self.fourth * (n / (n - 2))
        spreads = self.spread_x * self.spread_y * (n / ((n - 1) * (n - 2)))
        found: Tensor = (n * self.cross.square().sum() - diagonal + spreads) / (n - 3)
        return found

    def is_constant(self) -> bool:
        """Whether one of the two does not vary by more than rounding."""
        pairs = ((self.spread_x, self.mean_x), (self.spread_y, self.mean_y))
        tiny = torch.finfo(torch.float64).tiny
        return any(not a.item() > self.resolution**2 * max((mean @ mean).item(), tiny) for a, mean in pairs)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the moments with this gradient, (m,) float64."""
        rows = sample.rows
        return self.influence_of(gradient, rows.numbers(self.first), rows.numbers(self.second))

    def influence_of(self, gradient: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """The same for plain rows x (m, d) and y (m, e)."""
        alike = y is x
        u = by_tile(lambda tile: centred(tile, self.mean_x), x)
        v = u if alike else by_tile(lambda tile: centred(tile, self.mean_y), y)
        size_x = by_tile(lambda tile: tile.square().sum(dim=1), u).double()
        size_y = size_x if alike else by_tile(lambda tile: tile.square().sum(dim=1), v).double()
        across = u @ gradient["cross"].to(u.dtype)
        products = by_tile(lambda one, other: (one * other).sum(dim=1), across, v).double()
        thirds = _along(u, self.third_x) + _along(v, self.third_y)
        spreads = gradient["spread_x"] * (size_x - self.spread_x) + gradient["spread_y"] * (size_y - self.spread_y)
        fourth = gradient["fourth"] * (size_x * size_y - self.fourth - 2 * thirds)
        return products - (gradient["cross"] * self.cross).sum() + spreads + fourth


def _along(rows: Tensor, direction: Tensor) -> Tensor:
    """Products (m,) of rows with a direction (d,) of any length, float64."""
    length = direction.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return (rows @ (direction / length).to(rows.dtype)).double() * length


class FeatureMoments(PairMoments):
    """Of the features with themselves."""


class BaselineMoments(PairMoments):
    """Of the baseline's features with themselves."""

    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    first: ClassVar[str] = "baseline"
    second: ClassVar[str] = "baseline"


class CrossMoments(PairMoments):
    """Of the features with those of the baseline on the same rows."""

    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    second: ClassVar[str] = "baseline"
