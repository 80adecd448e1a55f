"""Moments of every fold, so that a probe can be trained on the other folds.

A row's fold is the hash of its id, or of its cluster where there are clusters, modulo the number of folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.classes import ClassMoments, LabelledMoments
from gate.geometry.statistics.columns import Codes
from gate.geometry.statistics.moments import Moments


def fold_count(d: int) -> int:
    """Folds for features of dimension d: 10, or 5 above 1024, where every fold holds d^2 numbers."""
    return 10 if d <= 1024 else 5


def fold_members(batch: Batch) -> Iterator[Tensor]:
    """Index of the rows of each fold."""
    folds = fold_count(batch.features.shape[1])
    which = batch.folds % folds
    for fold in range(folds):
        yield (which == fold).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes of some rows, in units of their root mean variance a channel.

    Attributes:
        n: Rows.
        mean: (d,).
        vectors: (d, r), divided by the unit.
        values: (r,) variance along each, in squared units; rows spread evenly have 1.
    """

    n: int
    mean: Tensor
    vectors: Tensor
    values: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """All of them, or the first n / 8 where there are fewer than 4 (d + 1) rows."""
        unit = moments.covariance.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        values, vectors = torch.linalg.eigh(moments.covariance / unit**2)
        if moments.n < 4 * (moments.d + 1):
            kept = max(1, moments.n // 8)
            values, vectors = values[-kept:], vectors[:, -kept:]
        return cls(moments.n, moments.mean, vectors / unit, values.clamp_min(0))


@dataclass(frozen=True, eq=False)
class MomentFolds:
    """Moments of the rows of each fold.

    Attributes:
        parts: One a fold.
        axes: Principal axes without some folds, once they have been asked for: every column that is read off the same
            rows shares them.
    """

    parts: tuple[Moments, ...]
    axes: dict[tuple[int, ...], Axes] = field(default_factory=dict, repr=False)

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()
    holds: ClassVar[tuple[type, ...]] = (Moments,)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls(
            tuple(
                Moments.of_rows(batch.features.index_select(0, rows), batch.resolution) for rows in fold_members(batch)
            )
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(tuple(a.merge(b) for a, b in zip(self.parts, other.parts, strict=True)))

    def held(self, kind: type) -> Moments:  # noqa: ARG002 - there is but one
        """Moments of all rows."""
        return self.without()

    def without(self, *held_out: int) -> Moments:
        """Moments of all rows but those of some folds."""
        return reduce(Moments.merge, [part for fold, part in enumerate(self.parts) if fold not in held_out])

    def axes_without(self, *held_out: int) -> Axes:
        """Principal axes of all rows but those of some folds."""
        key = tuple(sorted(held_out))
        if key not in self.axes:
            self.axes[key] = Axes.of(self.without(*key))
        return self.axes[key]


class Centres(NamedTuple):
    """Where the rows of each category lie.

    Attributes:
        counts: (K,) int64.
        shares: (K,) float64.
        means: (K, d) float64.
    """

    counts: Tensor
    shares: Tensor
    means: Tensor


@dataclass(frozen=True, eq=False)
class CategoryFolds:
    """Moments of each category of a column, of the rows of each fold."""

    parts: tuple[ClassMoments, ...]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    by: ClassVar[str] = "labels"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no such column.
        """
        return cls.of_codes(batch, batch.class_codes(cls.by))

    @classmethod
    def of_codes(cls, batch: Batch, codes: Codes) -> Self:
        """Of one batch, by any column."""
        return cls(
            tuple(
                ClassMoments.of_rows(batch.features.index_select(0, rows), codes.rows(rows))
                for rows in fold_members(batch)
            )
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(tuple(a.merge(b) for a, b in zip(self.parts, other.parts, strict=True)))

    def without(self, *held_out: int) -> ClassMoments:
        """Moments of each category over all rows but those of some folds."""
        return reduce(ClassMoments.merge, [part for fold, part in enumerate(self.parts) if fold not in held_out])

    def centres_without(self, *held_out: int) -> Centres:
        """Where the rows of each category lie, of all rows but those of some folds."""
        kept = [part for fold, part in enumerate(self.parts) if fold not in held_out]
        counts = torch.stack([part.counts for part in kept])
        total = counts.sum(dim=0)
        means = torch.zeros_like(kept[0].means)
        for part in kept:
            means.addcmul_(part.means, (part.counts.double() / total.clamp_min(1))[:, None])
        return Centres(total, total.double() / total.sum().clamp_min(1), means)


@dataclass(frozen=True, eq=False)
class ClassFolds:
    """Moments and class moments of the rows of each fold."""

    moments: tuple[Moments, ...]
    classes: tuple[ClassMoments, ...]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    holds: ClassVar[tuple[type, ...]] = (Moments, ClassMoments, MomentFolds, LabelledMoments)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        codes = batch.class_codes()
        parts = [
            LabelledMoments.of_rows(batch.features.index_select(0, rows), codes.rows(rows), batch.resolution)
            for rows in fold_members(batch)
        ]
        return cls(tuple(part.moments for part in parts), tuple(part.classes for part in parts))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(
            tuple(a.merge(b) for a, b in zip(self.moments, other.moments, strict=True)),
            tuple(a.merge(b) for a, b in zip(self.classes, other.classes, strict=True)),
        )

    def held(self, kind: type) -> MomentFolds | Moments | ClassMoments | LabelledMoments:
        """A statistic of the same rows that follows from these."""
        if kind is MomentFolds:
            return MomentFolds(self.moments)
        if kind is Moments:
            return MomentFolds(self.moments).without()
        if kind is ClassMoments:
            return CategoryFolds(self.classes).without()
        return LabelledMoments(*self.without())

    def without(self, *held_out: int) -> tuple[Moments, ClassMoments]:
        """Moments of all rows but those of some folds."""
        return MomentFolds(self.moments).without(*held_out), CategoryFolds(self.classes).without(*held_out)
