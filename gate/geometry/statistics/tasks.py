"""What a probe can be asked for besides classes, fold by fold: groups, free labels, tasks, continuous targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.columns import Codes, place, union
from gate.geometry.statistics.folds import CategoryFolds, fold_members


class GroupFolds(CategoryFolds):
    """Moments of each group, of the rows of each fold."""

    needs: ClassVar[tuple[str, ...]] = ("groups",)
    by: ClassVar[str] = "groups"


class PretextFolds(CategoryFolds):
    """Moments of each free label, of the rows of each fold."""

    needs: ClassVar[tuple[str, ...]] = ("pretext",)
    by: ClassVar[str] = "pretext"


@dataclass(frozen=True, eq=False)
class TaskFolds:
    """Moments of each category of the rows of each fold, by every column of several.

    Attributes:
        parts: Name of a column → its folds.
    """

    parts: Mapping[str, CategoryFolds]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("tasks",)
    by: ClassVar[str] = "tasks"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        named = batch.named(cls.by).items()
        return cls({name: CategoryFolds.of_codes(batch, codes) for name, codes in named if isinstance(codes, Codes)})

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)({name: part.merge(other.parts[name]) for name, part in self.parts.items()})


class AttributeFolds(TaskFolds):
    """Moments by every attribute, of the rows of each fold."""

    needs: ClassVar[tuple[str, ...]] = ("attributes",)
    by: ClassVar[str] = "attributes"


@dataclass(frozen=True, eq=False)
class TargetMoments:
    """Continuous targets (n, q) of some rows, and how they go with the features.

    Attributes:
        n: Rows.
        centre: (d,) mean of the features.
        mean: (q,).
        variance: (q,), with 1 / n.
        cross: (d, q) covariance of features and targets, with 1 / n.
    """

    n: int
    centre: Tensor
    mean: Tensor
    variance: Tensor
    cross: Tensor

    @classmethod
    def of_rows(cls, rows: Tensor, targets: Tensor) -> Self:
        """Of rows (n, d) and their targets (n, q)."""
        wanted = targets.double()
        centre, mean = rows.double().sum(dim=0) / max(len(rows), 1), wanted.sum(dim=0) / max(len(rows), 1)
        rest, n = wanted - mean, max(len(rows), 1)
        return cls(len(rows), centre, mean, rest.square().sum(dim=0) / n, (rows.double() - centre).T @ rest / n)

    def merge(self, other: Self) -> Self:
        """Of the rows of both (pairwise update)."""
        n = self.n + other.n
        if 0 in (self.n, other.n):
            return self if other.n == 0 else other
        weight = other.n / n
        shift, gap = other.centre - self.centre, other.mean - self.mean
        between = weight * (1 - weight)
        return type(self)(
            n,
            self.centre + weight * shift,
            self.mean + weight * gap,
            self.variance.lerp(other.variance, weight) + between * gap.square(),
            self.cross.lerp(other.cross, weight) + between * torch.outer(shift, gap),
        )


@dataclass(frozen=True, eq=False)
class TargetFolds:
    """Continuous targets and their covariance with the features, of the rows of each fold."""

    parts: tuple[TargetMoments, ...]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("targets",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        targets = batch.numbers("targets")
        return cls(
            tuple(
                TargetMoments.of_rows(batch.features.index_select(0, rows), targets[rows])
                for rows in fold_members(batch)
            )
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(tuple(a.merge(b) for a, b in zip(self.parts, other.parts, strict=True)))

    def without(self, *held_out: int) -> TargetMoments:
        """Of all rows but those of some folds."""
        return reduce(TargetMoments.merge, [part for fold, part in enumerate(self.parts) if fold not in held_out])


@dataclass(frozen=True, eq=False)
class CellFolds:
    """How many rows of each fold are of each group and class; without labels all are of one class.

    Attributes:
        groups: G names, sorted.
        classes: C names, sorted.
        counts: (folds, G, C) int64.
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("groups",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no groups.
        """
        groups = batch.class_codes("groups")
        return cls.of_codes(batch, groups, batch.labels or Codes(("",), torch.zeros_like(groups.values)))

    @classmethod
    def of_codes(cls, batch: Batch, groups: Codes, classes: Codes) -> Self:
        """Of one batch, by any two columns."""
        g, c = len(groups.names), len(classes.names)
        cells = groups.values * c + classes.values
        counts = [torch.bincount(cells[rows], minlength=g * c).reshape(g, c) for rows in fold_members(batch)]
        return cls(groups.names, classes.names, torch.stack(counts))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        groups, classes = union(self.groups, other.groups), union(self.classes, other.classes)
        total = self.counts.new_zeros(len(self.counts), len(groups), len(classes))
        for each in (self, other):
            rows, columns = place(each.groups, groups, total.device), place(each.classes, classes, total.device)
            total[:, rows[:, None], columns] += each.counts
        return type(self)(groups, classes, total)

    def without(self, *held_out: int) -> Tensor:
        """Counts (G, C) of all rows but those of some folds."""
        kept = [fold for fold in range(len(self.counts)) if fold not in held_out]
        return self.counts[kept].sum(dim=0)
