"""Moments of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from gate.geometry.statistics.batch import Batch, Split, by_tile, per_live_row, unit_rows, unit_scale
from gate.geometry.statistics.columns import Codes, place, union
from gate.geometry.statistics.moments import Moments, add_upper, column_sums, mirrored, scaled

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


_TILE = 2048
_NEGLIGIBLE = 1e-9  # share of the scatter that the rounding of class means may add to it


def _class_sums(rows: Tensor, order: Tensor, counts: Tensor, scale: Tensor | None) -> Tensor:
    """Sum of the rows of each class, (C, d), in the rows' precision; `order` lists the rows class by class."""
    starts = counts.cumsum(0) - counts
    weights = None if scale is None else scale[order]
    return functional.embedding_bag(order, rows, starts, mode="sum", per_sample_weights=weights)


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Count, mean and spread of the feature rows of each class.

    Attributes:
        names: C class names, sorted.
        counts: (C,) int64.
        shares: (C,) float64, counts / n.
        means: (C, d) float64.
        within: (C,) float64, mean squared distance of a row to its class mean.
        within_channels: (d,) float64, within-class variance of each channel, over all rows.
    """

    names: tuple[str, ...]
    counts: Tensor
    shares: Tensor
    means: Tensor
    within: Tensor
    within_channels: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    leaves: ClassVar[tuple[str, ...]] = ("shares", "means", "within", "within_channels")
    column: ClassVar[str] = "features"
    by: ClassVar[str] = "labels"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        return cls.of_rows(batch.numbers(cls.column), batch.class_codes(cls.by))

    @classmethod
    def of_rows(cls, rows: Tensor, codes: Codes, scale: Tensor | None = None) -> Self:
        """Of rows (n, d), each times its `scale` (n,), and the class of each."""
        return cls.scattered(rows, codes, scale, None)

    @classmethod
    def scattered(cls, rows: Tensor, codes: Codes, scale: Tensor | None, scatter: Tensor | None) -> Self:
        """As `of_rows`; adds the products of the rows about their class means to the upper half of `scatter` (d, d).

        Rows are moved by their rounded class means, so that tight classes stay exact.
        """
        counts = codes.counts()
        divisor = counts.clamp_min(1)[:, None]
        order = codes.values.argsort(stable=True)
        shift = _class_sums(rows, order, counts, scale) / divisor.to(rows.dtype)
        rest = torch.zeros(shift.shape, dtype=torch.float64, device=rows.device)
        sizes = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        channels = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
        for picks in order.split(_TILE) if len(rows) else ():
            own = codes.values[picks]
            tile = rows.index_select(0, picks)  # several times as fast as rows[picks]
            moved = scaled(tile, None if scale is None else scale[picks, None]).sub_(shift.index_select(0, own))
            low, high = int(own[0]), int(own[-1]) + 1
            inside = torch.bincount(own - low, minlength=high - low)
            rest[low:high] += _class_sums(moved, torch.arange(len(own), device=own.device), inside, None)
            if scatter is not None:
                add_upper(scatter, moved)
            squares = moved.square_()
            sizes[picks] = squares.sum(dim=1).double()
            channels += column_sums(squares)
        rest /= divisor
        within = torch.zeros(len(counts), dtype=torch.float64, device=rows.device).index_add_(0, codes.values, sizes)
        n = max(len(rows), 1)
        if scatter is not None and rest.square().sum(dim=1) @ counts.double() > _NEGLIGIBLE * channels.sum():
            add_upper(scatter, rest * counts.double().sqrt()[:, None], sign=-1)
        return cls(
            codes.names,
            counts,
            counts.double() / n,
            shift.double() + rest,
            within / divisor[:, 0] - rest.square().sum(dim=1),
            channels / n - (counts[:, None] * rest.square()).sum(dim=0) / n,
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        names = union(self.names, other.names)
        first, second = self._spread_over(names), other._spread_over(names)
        counts = first.counts + second.counts
        n = int(counts.sum())
        weight = second.counts.double() / counts.clamp_min(1)
        gap = second.means - first.means
        cross = weight * (1 - weight)
        between = (counts[:, None] * cross[:, None] * gap.square()).sum(dim=0)
        channels = (first.within_channels * first.n + second.within_channels * second.n + between) / max(n, 1)
        return type(self)(
            names,
            counts,
            counts.double() / max(n, 1),
            first.means + gap * weight[:, None],
            first.within * (1 - weight) + second.within * weight + cross * gap.square().sum(dim=1),
            channels,
        )

    def _spread_over(self, names: tuple[str, ...]) -> Self:
        if names == self.names:
            return self
        where = place(self.names, names, self.counts.device)
        size = len(names)

        def wide(column: Tensor) -> Tensor:
            return column.new_zeros(size, *column.shape[1:]).index_copy_(0, where, column)

        return type(self)(
            names, wide(self.counts), wide(self.shares), wide(self.means), wide(self.within), self.within_channels
        )

    @property
    def n(self) -> int:
        """Rows of all classes."""
        return int(self.counts.sum())

    @property
    def c(self) -> int:
        """Classes."""
        return len(self.names)

    @property
    def d(self) -> int:
        """Feature dimension."""
        return self.means.shape[1]

    @property
    def smallest(self) -> int:
        """Rows of the smallest class."""
        return int(self.counts.min())

    @property
    def mean(self) -> Tensor:
        """Mean of all rows, (d,)."""
        return self.shares @ self.means

    @property
    def unbiased_within(self) -> Tensor:
        """Unbiased total variance of each class, (C,): v_c."""
        return self.within * (self.counts.double() / (self.counts - 1))

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the class moments with this gradient, (m,) float64."""
        return self._influence(gradient, sample.rows.numbers(self.column), sample.class_codes(self.names, self.by))

    def _influence(self, gradient: Mapping[str, Tensor], rows: Tensor, codes: Tensor) -> Tensor:
        pulls, channels = gradient["means"], gradient["within_channels"]

        def terms(tile: Tensor, own: Tensor) -> Tensor:
            moved = tile.double() - self.means.index_select(0, own)
            along = (moved * pulls.index_select(0, own)).sum(dim=1)
            squares = moved.square_()
            spread = gradient["within"][own] * (squares.sum(dim=1) - self.within[own])
            return (along + spread) / self.shares[own] + (squares @ channels)

        share = gradient["shares"][codes] - gradient["shares"] @ self.shares
        return share + by_tile(terms, rows, codes) - self.within_channels @ channels


class UnitClassMoments(ClassMoments):
    """Class moments of the unit rows x / |x|; zero rows have no direction and are left out."""

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        rows, codes = batch.numbers(cls.column), batch.class_codes(cls.by)
        scale, alive = unit_scale(rows)
        if bool(alive.all()):
            return cls.of_rows(rows, codes, scale)
        index = alive.nonzero()[:, 0]
        return cls.of_rows(rows[index], codes.rows(index), scale[index])

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `ClassMoments`, over the rows that have a direction."""
        rows, alive = unit_rows(sample.rows.numbers(self.column))
        return per_live_row(self._influence(gradient, rows, sample.class_codes(self.names, self.by)), alive)


@dataclass(frozen=True, eq=False)
class LabelledMoments:
    """Moments of all rows and of each class, from one product of the rows about their class means.

    The spread of the class means is added in float64: nothing else is exact for tight classes far apart.
    """

    moments: Moments
    classes: ClassMoments

    split: ClassVar[Split] = "probe"
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
        """Of rows (n, d) and the class of each."""
        if 2 * int(codes.counts().count_nonzero()) > len(rows):  # hardly any row is beside one of its class
            return cls(Moments.of_rows(rows, resolution), ClassMoments.of_rows(rows, codes))
        n, d = rows.shape
        scatter = torch.zeros(d, d, dtype=torch.float64, device=rows.device)
        classes = ClassMoments.scattered(rows, codes, None, scatter)
        kept = classes.counts > 0
        add_upper(scatter, (classes.means - classes.mean)[kept] * classes.counts[kept].double().sqrt()[:, None])
        return cls(Moments(n, classes.mean, mirrored(scatter).div_(n), resolution), classes)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(self.moments.merge(other.moments), self.classes.merge(other.classes))
