"""The rows that are kept: for neighbours, for held-out rows and for influence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, place

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

    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ()

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
        return type(self)(n, _join(self.rows, other.rows).rows(kept))

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

    def zero_share(self) -> float:
        """Share of the rows that are zero, or too small against the others to have a direction."""
        norms = torch.linalg.vector_norm(self.features, dim=1, dtype=torch.float64)
        alive = norms[norms > 0]
        return (norms < 1e-12 * alive.median()).double().mean().item() if len(alive) else 1.0

    def class_codes(self, names: tuple[str, ...]) -> Tensor:
        """Index of the class of each row among `names`, (m,) int64.

        Raises:
            MetricError: The rows have no labels.
        """
        codes = self.rows.class_codes()
        return place(codes.names, names, codes.values.device)[codes.values]

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """Nothing: a metric over individual rows gives its influence itself."""
        del gradient
        return torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)


def _join(first: Batch, second: Batch) -> Batch:
    both = (first.labels, second.labels), (first.groups, second.groups), (first.lengths, second.lengths)
    if any((a is None) != (b is None) for a, b in both):
        raise MetricError("some rows have labels, groups or lengths and others have none")
    (labels, other_labels), (groups, other_groups), (lengths, other_lengths) = both
    return Batch(
        torch.cat([first.features, second.features]),
        max(first.resolution, second.resolution),
        first.ids + second.ids,
        torch.cat([first.hashes, second.hashes]),
        None if labels is None or other_labels is None else labels.join(other_labels),
        None if groups is None or other_groups is None else groups.join(other_groups),
        None if lengths is None or other_lengths is None else torch.cat([lengths, other_lengths]),
        torch.cat([first.fingerprints, second.fingerprints]),
    )
