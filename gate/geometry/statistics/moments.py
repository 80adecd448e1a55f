"""Mean and covariance of feature rows, and of unit rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import IN_CACHE, Batch, Split, by_tile, per_live_row, unit_rows, with_direction

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

_TILE = 4096  # rows of a Gram product in the features' own precision, before it is added in float64
_STRIPES = 4  # block rows of a symmetric product: those above the diagonal are all that is computed
_NARROW = 128  # columns below which stripes cost more than they save


def add_upper(total: Tensor, tile: Tensor, sign: int = 1) -> None:
    """Adds the products of the columns of a tile on and above the diagonal blocks, half of the work of all."""
    d = tile.shape[1]
    width = d if d <= _NARROW else -(-d // _STRIPES)
    for start in range(0, d, width):
        total[start : start + width, start:].add_(tile[:, start : start + width].T @ tile[:, start:], alpha=sign)


def mirrored(upper: Tensor) -> Tensor:
    """The symmetric matrix that a matrix is the upper half of."""
    above = upper.triu()
    return above + above.triu(1).T


def moved_tiles(
    rows: Tensor,
    shift: Tensor,
    *,
    scale: Tensor | None = None,
    order: Tensor | None = None,
    groups: Tensor | None = None,
) -> Iterator[Tensor]:
    """Rows about a shift, tile by tile; a tile holds until the next one is asked for.

    Args:
        rows: (n, d).
        shift: (d,), or (C, d) of which `groups` picks one for each row.
        scale: (n,) factor of each row, before it is moved.
        order: (n,) int64, in which the rows are taken; as they are when None.
        groups: (n,) int64.
    """
    n, d = rows.shape
    room = rows.new_empty(min(n, _TILE), d)
    for start in range(0, n, _TILE):
        tile = room[: n - start]
        for place, part in zip(range(start, n, IN_CACHE), tile.split(IN_CACHE), strict=False):
            span = slice(place, place + len(part))
            which = span if order is None else order[span]
            if isinstance(which, slice):
                part.copy_(rows[which])
            else:
                torch.index_select(rows, 0, which, out=part)  # several times as fast as rows[which]
            if scale is not None:
                part.mul_(scale[which, None])
            part.sub_(shift if groups is None else shift.index_select(0, groups[which]))
        yield tile


def centred(rows: Tensor, mean: Tensor) -> Tensor:
    """A tile of rows less a float64 mean, in their own precision."""
    return (rows.double() - mean).to(rows.dtype)


def column_sums(rows: Tensor) -> Tensor:
    """Sum of a tile of rows, (d,) float64."""
    return (rows.new_ones(len(rows)) @ rows).double()


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

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ("mean", "covariance")
    column: ClassVar[str] = "features"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls.of_rows(batch.numbers(cls.column), batch.resolution)

    @classmethod
    def of_rows(cls, rows: Tensor, resolution: float, scale: Tensor | None = None) -> Self:
        """Of rows (n, d), each times its `scale` (n,).

        They are moved by the rounded mean of the first of them, so that no offset eats digits.
        """
        n, d = rows.shape
        covariance = torch.zeros(d, d, dtype=torch.float64, device=rows.device)
        rest = torch.zeros(d, dtype=torch.float64, device=rows.device)
        if n == 0:
            return cls(0, rest, covariance, resolution)
        first = rows[:IN_CACHE] if scale is None else rows[:IN_CACHE] * scale[:IN_CACHE, None]
        shift = first.mean(dim=0, dtype=torch.float64).to(rows.dtype)
        for tile in moved_tiles(rows, shift, scale=scale):
            rest += column_sums(tile)
            add_upper(covariance, tile)
        rest /= n
        covariance = mirrored(covariance).div_(n).addr_(rest, rest, alpha=-1)
        return cls(n, shift.double() + rest, covariance, resolution)

    def merge(self, other: Self) -> Self:
        """Of the rows of both (pairwise update of Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        if 0 in (self.n, other.n):
            return self if other.n == 0 else other
        gap = other.mean - self.mean
        weight = other.n / n
        covariance = self.covariance.lerp(other.covariance, weight).addr_(gap, gap, alpha=weight * (1 - weight))
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
        return self._influence(gradient, sample.rows.numbers(self.column))

    def _influence(self, gradient: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        linear, quadratic = gradient["mean"].to(rows.dtype), gradient["covariance"]
        diagonal = quadratic.diagonal()
        moved = by_tile(lambda tile: centred(tile, self.mean), rows)
        if int(quadratic.count_nonzero()) == int(diagonal.count_nonzero()):
            plain = diagonal.to(rows.dtype)
            squares = by_tile(lambda tile: tile.square() @ plain, moved)
        else:
            across = moved @ quadratic.to(rows.dtype)
            squares = by_tile(lambda tile, product: (tile * product).sum(dim=1), moved, across)
        return (moved @ linear + squares).double() - (quadratic * self.covariance).sum()


class UnitMoments(Moments):
    """Moments of the unit rows x / |x|; zero rows have no direction and are left out."""

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        rows, scale, _ = with_direction(batch.numbers(cls.column))
        return cls.of_rows(rows, batch.resolution, scale)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `Moments`, over the rows that have a direction."""
        rows, alive = unit_rows(sample.rows.numbers(self.column))
        return per_live_row(self._influence(gradient, rows), alive)
