"""The rows that are kept: for neighbours, for held-out rows and for influence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split, row_lengths
from gate.geometry.statistics.columns import place

CAPACITY = 8192


@dataclass(frozen=True, eq=False)
class Sample:
    """The at most 8192 rows whose hashed ids are lowest, in the order of the hashes.

    Random, yet the same rows in any order, under any sharding and for two models on one probe set.

    Attributes:
        n: Rows seen.
        rows: The m rows kept.
    """

    n: int
    rows: Batch

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls(len(batch.hashes), batch.rows(batch.hashes.argsort(stable=True)[:CAPACITY]))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        n = self.n + other.n
        hashes = torch.cat([self.rows.hashes, other.rows.hashes])
        kept = hashes.argsort(stable=True)[:CAPACITY]
        if len(self.rows.hashes) == CAPACITY and bool((kept < CAPACITY).all()):
            return replace(self, n=n)
        return replace(self, n=n, rows=self.rows.join(other.rows).rows(kept))

    @property
    def features(self) -> Tensor:
        """(m, d)."""
        return self.rows.features

    @property
    def ids(self) -> tuple[str, ...]:
        """The m sample ids."""
        return self.rows.ids

    @property
    def m(self) -> int:
        """Rows kept."""
        return len(self.rows.ids)

    @property
    def share(self) -> float:
        """Rows kept over rows seen."""
        return self.m / max(self.n, 1)

    def zero_share(self) -> float:
        """Share of the rows that are zero, or too small against the others to have a direction."""
        norms = row_lengths(self.features, torch.float64)
        alive = norms[norms > 0]
        return (norms < 1e-12 * alive.median()).double().mean().item() if len(alive) else 1.0

    @property
    def clusters(self) -> Tensor | None:
        """(m,) int64, equal for rows that are not independent of each other; None when every row is."""
        found = self.rows.columns.get("clusters")
        return found if isinstance(found, Tensor) else None

    def class_codes(self, names: tuple[str, ...], column: str = "labels") -> Tensor:
        """Index of the category of each row among `names`, (m,) int64.

        Raises:
            MetricError: The rows have no such column.
        """
        codes = self.rows.class_codes(column)
        return place(codes.names, names, codes.values.device)[codes.values]


class ReferenceSample(Sample):
    """The sampled reference rows: held apart from the probe set."""

    split: ClassVar[Split] = "reference"


class OodSample(Sample):
    """The sampled rows out of distribution."""

    split: ClassVar[Split] = "ood"


class ShiftedSample(Sample):
    """The sampled rows of the probe set under a shift."""

    split: ClassVar[Split] = "shifted"
