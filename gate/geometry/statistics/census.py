"""Counts over all rows: are they finite, are they repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split

_NAMED = 5


@dataclass(frozen=True)
class Bad:
    """Rows of a column that hold a NaN or an infinity.

    Attributes:
        count: How many.
        first: (hash, id) of at most 5 of them, those with the lowest hashes.
    """

    count: int
    first: tuple[tuple[int, str], ...]

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(self.count + other.count, tuple(sorted(self.first + other.first)[:_NAMED]))


@dataclass(frozen=True, eq=False)
class RowCensus:
    """How many rows there are, of which dimension, and how many hold a NaN or an infinity.

    Attributes:
        n: Rows.
        d: Feature dimension.
        bad: Column of numbers, `features` among them, → its rows that are not finite; those without any are left out.
    """

    n: int
    d: int
    bad: Mapping[str, Bad]

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        found = {"features": _bad(batch, batch.features)}
        for name, column in batch.columns.items():
            if isinstance(column, Tensor) and column.is_floating_point():
                found[name] = _bad(batch, column)
        return cls(len(batch.ids), batch.features.shape[1], {name: bad for name, bad in found.items() if bad.count})

    def merge(self, other: Self) -> Self:
        """Of the rows of both.

        Raises:
            MetricError: The rows have different dimensions.
        """
        if self.d != other.d:
            raise MetricError(f"feature rows of one layer must have one dimension, found {self.d} and {other.d}")
        bad = dict(self.bad)
        for name, more in other.bad.items():
            bad[name] = bad[name].merge(more) if name in bad else more
        return type(self)(self.n + other.n, self.d, bad)

    def require_finite(self, columns: Iterable[str] = (), split: Split = "probe") -> None:
        """Refuses features, and columns, that no metric is defined on.

        Raises:
            MetricError: A row holds a NaN or an infinity.
        """
        asked = {"features", *columns}
        for name, bad in self.bad.items():
            if name.partition(".")[0] in asked:
                rows = "" if split == "probe" else f"{split} "
                what = f"{rows}feature rows" if name == "features" else f"{rows}rows of {name}"
                ids = ", ".join(repr(identifier) for _, identifier in bad.first)
                raise MetricError(
                    f"nonfinite_rows: {bad.count} of {self.n} {what} hold NaN or infinity (first ids: {ids}); "
                    "no metric is defined on them, mend the model or the probe set"
                )


def _bad(batch: Batch, values: Tensor) -> Bad:
    sums = values if values.ndim == 1 else values @ values.new_ones(values.shape[1])  # finite when every entry is
    if not bool(torch.isfinite(sums).all()):
        sums = values.double().reshape(len(values), -1).sum(dim=1)
    rows = (~torch.isfinite(sums)).nonzero()[:, 0].tolist()
    first = sorted((int(batch.hashes[row]), batch.ids[row]) for row in rows)
    return Bad(len(rows), tuple(first[:_NAMED]))


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The fingerprint of every row, (n,) int64 in any order: 8 bytes a row."""

    values: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls(batch.fingerprints)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(torch.cat([self.values, other.values]))

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.values)

    def repeated(self) -> tuple[Tensor, int]:
        """The fingerprints that occur more than once, and how many rows have one of them."""
        values, counts = self.values.unique(return_counts=True)
        return values[counts > 1], int(counts[counts > 1].sum())


class ReferenceFingerprints(Fingerprints):
    """The fingerprint of every reference row."""

    split: ClassVar[Split] = "reference"
