"""Two sets of features of the same rows: what a comparison of two versions needs, from one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.moments import gram

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

_TILE = 4096


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
        n = len(x)
        mean_x, moved_x, rest_x = _centred(x)
        mean_y, moved_y, rest_y = (mean_x, moved_x, rest_x) if y is x else _centred(y)
        cross = gram(moved_x) if y is x else _product(moved_x, moved_y)
        zero = torch.zeros((), dtype=torch.float64, device=x.device)
        spread_x, spread_y, fourth = zero.clone(), zero.clone(), zero.clone()
        third_x, third_y = torch.zeros_like(rest_x), torch.zeros_like(rest_y)
        for tile_x, tile_y in zip(moved_x.split(_TILE), moved_y.split(_TILE), strict=True):
            u, v = tile_x.double() - rest_x, tile_y.double() - rest_y
            size_x, size_y = u.square().sum(dim=1), v.square().sum(dim=1)
            spread_x += size_x.sum()
            spread_y += size_y.sum()
            third_x += size_y @ u
            third_y += size_x @ v
            fourth += size_x @ size_y
        count = max(n, 1)
        return cls(
            n,
            mean_x,
            mean_y,
            (cross / count).addr_(rest_x, rest_y, alpha=-1),
            spread_x / count,
            spread_y / count,
            third_x / count,
            third_y / count,
            fourth / count,
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
        u, v = x.double() - self.mean_x, y.double() - self.mean_y
        size_x, size_y = u.square().sum(dim=1), v.square().sum(dim=1)
        slope = gradient["cross"].to(x.dtype)
        products = ((u.to(x.dtype) @ slope).double() * v).sum(dim=1) - (gradient["cross"] * self.cross).sum()
        fourth = size_x * size_y - self.fourth - 2 * (u @ self.third_x + v @ self.third_y)
        spreads = gradient["spread_x"] * (size_x - self.spread_x) + gradient["spread_y"] * (size_y - self.spread_y)
        return products + spreads + gradient["fourth"] * fourth


def _centred(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,) float64, rows less the rounded mean (n, d), and the mean of those (d,) float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for tile in rows.split(_TILE):
        total += tile.sum(dim=0, dtype=torch.float64)
    shift = (total / max(len(rows), 1)).to(rows.dtype)
    moved = rows - shift
    rest = torch.zeros_like(total)
    for tile in moved.split(_TILE):
        rest += tile.sum(dim=0, dtype=torch.float64)
    rest /= max(len(rows), 1)
    return shift.double() + rest, moved, rest


def _product(x: Tensor, y: Tensor) -> Tensor:
    """Sum of x y^T over the rows, (d, e) float64: tiles in the wider precision of the two."""
    total = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, device=x.device)
    common = torch.promote_types(x.dtype, y.dtype)
    for tile_x, tile_y in zip(x.split(_TILE), y.split(_TILE), strict=True):
        total += tile_x.to(common).T @ tile_y.to(common)
    return total


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
