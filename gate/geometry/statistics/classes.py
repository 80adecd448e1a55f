"""Moments of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from gate.geometry.statistics.batch import (
    Batch,
    Split,
    by_tile,
    per_live_row,
    row_lengths,
    unit_rows,
    unit_scale,
    with_direction,
)
from gate.geometry.statistics.columns import Codes, place, union
from gate.geometry.statistics.moments import Moments, UnitMoments, add_upper, column_sums, mirrored, moved_tiles

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


_MISSED = 0.01  # share of the scatter above which the class means were missed by too much
_NEGLIGIBLE = 1e-9  # share of the scatter that the rounding of class means may add to it


def _class_sums(rows: Tensor, order: Tensor, counts: Tensor, scale: Tensor | None) -> Tensor:
    """Sum of the rows of each class, (C, d), in the rows' precision; `order` lists the rows class by class."""
    starts = counts.cumsum(0) - counts
    weights = None if scale is None else scale[order]
    return functional.embedding_bag(order, rows, starts, mode="sum", per_sample_weights=weights)


class Offsets(NamedTuple):
    """Sampled rows about the mean of their class.

    Attributes:
        moved: (m, d), in the rows' own precision.
        sizes: (m,) float64, squared lengths of these.
        codes: (m,) int64, class of each.
    """

    moved: Tensor
    sizes: Tensor
    codes: Tensor


def _about(
    shift: Tensor, rows: Tensor, codes: Codes, order: Tensor, scale: Tensor | None, scatter: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the rows less the shift (C, d) of their class: class means (C, d), squares by channel (d,) and by class (C,).

    The products of these rows go to the upper half of `scatter`, in place of what was there.
    """
    own, counts = codes.values[order], codes.counts()
    rest = torch.zeros(shift.shape, dtype=torch.float64, device=rows.device)
    squares, sizes = torch.zeros_like(rest[0]), torch.zeros_like(rest[:, 0])
    if scatter is not None:
        scatter.zero_()
    start = 0
    for tile in moved_tiles(rows, shift, scale=scale, order=order, groups=codes.values):
        inside = own[start : start + len(tile)]
        start += len(tile)
        low, high = int(inside[0]), int(inside[-1]) + 1
        of_each = torch.bincount(inside - low, minlength=high - low)
        rest[low:high] += _class_sums(tile, torch.arange(len(tile), device=tile.device), of_each, None)
        sizes.index_add_(0, inside, row_lengths(tile).double().square())
        if scatter is None:
            squares += column_sums(tile.square_())
        else:
            add_upper(scatter, tile)
    rest /= counts.clamp_min(1)[:, None]
    return rest, squares if scatter is None else scatter.diagonal().clone(), sizes


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
        known: The sampled rows about their class means, once they have been asked for.
    """

    names: tuple[str, ...]
    counts: Tensor
    shares: Tensor
    means: Tensor
    within: Tensor
    within_channels: Tensor
    known: WeakKeyDictionary[Sample, Offsets] = field(default_factory=WeakKeyDictionary, repr=False)

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
        return cls.of_rows(batch.numbers(cls.column), cls.classes_of(batch))

    @classmethod
    def classes_of(cls, batch: Batch) -> Codes:
        """The class of each row of a batch."""
        return batch.class_codes(cls.by)

    @classmethod
    def of_rows(cls, rows: Tensor, codes: Codes, scale: Tensor | None = None) -> Self:
        """Of rows (n, d), each times its `scale` (n,), and the class of each."""
        return cls.scattered(rows, codes, scale, None)

    @classmethod
    def scattered(cls, rows: Tensor, codes: Codes, scale: Tensor | None, scatter: Tensor | None) -> Self:
        """As `of_rows`; writes the products of the rows about their class means to the upper half of a matrix (d, d).

        Rows are moved by their rounded class means, so that tight classes stay exact. Sums of many rows in single
        precision can miss these by more than the spread: then the rows are moved once more, by where they lie.
        """
        counts = codes.counts()
        order = codes.values.argsort(stable=True)
        shift = _class_sums(rows, order, counts, scale) / counts.clamp_min(1)[:, None].to(rows.dtype)
        rest, squares, sizes = _about(shift, rows, codes, order, scale, scatter)
        missed = rest.square().sum(dim=1) @ counts.double()
        if missed > _MISSED * squares.sum():
            shift = (shift.double() + rest).to(rows.dtype)
            rest, squares, sizes = _about(shift, rows, codes, order, scale, scatter)
            missed = rest.square().sum(dim=1) @ counts.double()
        if scatter is not None and missed > _NEGLIGIBLE * squares.sum():
            add_upper(scatter, rest * counts.double().sqrt()[:, None], sign=-1)
        n = max(len(rows), 1)
        return cls(
            codes.names,
            counts,
            counts.double() / n,
            shift.double() + rest,
            sizes / counts.clamp_min(1) - rest.square().sum(dim=1),
            squares / n - (counts[:, None] * rest.square()).sum(dim=0) / n,
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

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the class moments with this gradient, (m,) float64."""
        rows = self.offsets(sample)
        own = rows.codes
        pulls, channels = gradient["means"].to(rows.moved.dtype), gradient["within_channels"]
        along = torch.zeros_like(rows.sizes)
        if bool(pulls.any()):
            along = by_tile(lambda tile, one: (tile * pulls.index_select(0, one)).sum(dim=1), rows.moved, own).double()
        if bool(channels.any()):
            plain = channels.to(rows.moved.dtype)
            across = by_tile(lambda tile: tile.square() @ plain, rows.moved).double() - self.within_channels @ channels
        else:
            across = torch.zeros_like(rows.sizes)
        spread = gradient["within"][own] * (rows.sizes - self.within[own])
        share = gradient["shares"][own] - gradient["shares"] @ self.shares
        return share + (along + spread) / self.shares[own] + across

    def offsets(self, sample: Sample) -> Offsets:
        """The sampled rows about the mean of their class: one for every function of these moments."""
        if sample not in self.known:
            self.known[sample] = self._offsets(sample)
        return self.known[sample]

    def _offsets(self, sample: Sample) -> Offsets:
        rows, codes = self._sampled(sample)
        centres = self.means.detach()
        moved = by_tile(lambda tile, own: (tile - centres.index_select(0, own)).to(rows.dtype), rows, codes)
        return Offsets(moved, by_tile(lambda tile: tile.square().sum(dim=1), moved).double(), codes)

    def codes_of(self, batch: Batch) -> Tensor:
        """Index of the class of each row of a batch, (n,) int64."""
        codes = self.classes_of(batch)
        return place(codes.names, self.names, codes.values.device)[codes.values]

    def _sampled(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """The sampled rows (m, d), and the class of each (m,)."""
        return sample.rows.numbers(self.column), self.codes_of(sample.rows)


class UnitClassMoments(ClassMoments):
    """Class moments of the unit rows x / |x|; zero rows have no direction and are left out."""

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        codes = cls.classes_of(batch)
        rows, scale, alive = with_direction(batch.numbers(cls.column))
        return cls.of_rows(rows, codes if alive is None else codes.rows(alive), scale)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `ClassMoments`, over the rows that have a direction."""
        _, alive = unit_scale(sample.rows.numbers(self.column))
        return per_live_row(super().influence(gradient, sample), alive)

    def _offsets(self, sample: Sample) -> Offsets:
        rows, alive = super()._offsets(sample), unit_scale(sample.rows.numbers(self.column))[1]
        for column in (rows.moved, rows.sizes):
            column[~alive] = 0  # rows without a direction lie at their mean
        return rows

    def _sampled(self, sample: Sample) -> tuple[Tensor, Tensor]:
        rows, codes = super()._sampled(sample)
        return unit_rows(rows)[0], codes


@dataclass(frozen=True, eq=False)
class LabelledMoments:
    """Moments of all rows and of each class, from one product of the rows about their class means.

    The spread of the class means is added in float64: nothing else is exact for tight classes far apart.
    """

    moments: Moments
    classes: ClassMoments

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    holds: ClassVar[tuple[Any, ...]] = (Moments, ClassMoments)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        return cls.of_rows(batch.features, batch.class_codes(), batch.resolution)

    @classmethod
    def of_rows(cls, rows: Tensor, codes: Codes, resolution: float, scale: Tensor | None = None) -> Self:
        """Of rows (n, d), each times its `scale` (n,), and the class of each."""
        of_all, of_each = cls.holds
        if 2 * int(codes.counts().count_nonzero()) > len(rows):  # hardly any row is beside one of its class
            return cls(of_all.of_rows(rows, resolution, scale), of_each.of_rows(rows, codes, scale))
        n, d = rows.shape
        scatter = torch.zeros(d, d, dtype=torch.float64, device=rows.device)
        classes = of_each.scattered(rows, codes, scale, scatter)
        kept = classes.counts > 0
        add_upper(scatter, (classes.means - classes.mean)[kept] * classes.counts[kept].double().sqrt()[:, None])
        return cls(of_all(n, classes.mean, mirrored(scatter).div_(max(n, 1)), resolution), classes)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(self.moments.merge(other.moments), self.classes.merge(other.classes))

    def held(self, kind: type) -> Moments | ClassMoments:
        """One of the two."""
        return self.moments if kind is self.holds[0] else self.classes


class UnitLabelledMoments(LabelledMoments):
    """Of the unit rows x / |x|; zero rows have no direction and are left out."""

    holds: ClassVar[tuple[Any, ...]] = (UnitMoments, UnitClassMoments)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        codes = batch.class_codes()
        rows, scale, alive = with_direction(batch.features)
        return cls.of_rows(rows, codes if alive is None else codes.rows(alive), batch.resolution, scale)
