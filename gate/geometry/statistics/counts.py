"""Rows of each category, over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.columns import place, union


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How many rows each class has.

    Attributes:
        names: C names, sorted.
        counts: (C,) int64.
    """

    names: tuple[str, ...]
    counts: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    by: ClassVar[str] = "labels"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        codes = batch.class_codes(cls.by)
        return cls(codes.names, codes.counts())

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        names = union(self.names, other.names)
        counts = self.counts.new_zeros(len(names))
        for part in (self, other):
            counts.index_add_(0, place(part.names, names, counts.device), part.counts)
        return type(self)(names, counts)


class GroupCounts(LabelCounts):
    """How many rows each group has."""

    needs: ClassVar[tuple[str, ...]] = ("groups",)
    by: ClassVar[str] = "groups"
