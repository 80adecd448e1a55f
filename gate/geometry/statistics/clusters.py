"""How the rows of each class fall into clusters, over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.columns import place, union


@dataclass(frozen=True, eq=False)
class ClusterCounts:
    """How many rows each cluster has in each class.

    Attributes:
        names: C class names, sorted.
        classes: (k,) int64, class of each cell of a class and a cluster.
        clusters: (k,) int64, its cluster.
        counts: (k,) int64.
    """

    names: tuple[str, ...]
    classes: Tensor
    clusters: Tensor
    counts: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels", "clusters")

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        codes = batch.class_codes()
        ones = torch.ones_like(codes.values)
        return cls._counted(codes.names, codes.values, batch.numbers("clusters"), ones)

    @classmethod
    def _counted(cls, names: tuple[str, ...], classes: Tensor, clusters: Tensor, counts: Tensor) -> Self:
        cells, inverse = torch.stack([classes, clusters]).unique(dim=1, return_inverse=True)
        return cls(names, cells[0], cells[1], counts.new_zeros(cells.shape[1]).index_add_(0, inverse, counts))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        names = union(self.names, other.names)
        classes = [place(part.names, names, part.classes.device)[part.classes] for part in (self, other)]
        clusters, counts = [self.clusters, other.clusters], [self.counts, other.counts]
        return self._counted(names, torch.cat(classes), torch.cat(clusters), torch.cat(counts))

    def by_class(self, terms: Tensor) -> Tensor:
        """Sum over the cells of each class, (C,) float64."""
        return torch.zeros(len(self.names), dtype=torch.float64, device=terms.device).index_add_(0, self.classes, terms)

    def concentration(self) -> Tensor:
        """Sum of the squared shares of the clusters in each class, (C,): 1 for a single one, 1 / G for G equal ones."""
        sizes = self.counts.double()
        return self.by_class(sizes.square()) / self.by_class(sizes).square()

    def left(self) -> Tensor:
        """Share of the covariance of two rows of one cluster that is left about the fitted class mean, (C,)."""
        sizes = self.counts.double()
        pairs = self.by_class(sizes * (sizes - 1))
        typical = self.by_class(sizes.square() * (sizes - 1)) / (pairs * self.by_class(sizes)).clamp_min(1)
        return 1 - 2 * typical + self.concentration()

    def overall(self) -> float:
        """The same of the clusters in all rows, of whatever class."""
        _, inverse = self.clusters.unique(return_inverse=True)
        sizes = torch.bincount(inverse, self.counts.double())
        return float(sizes.square().sum() / sizes.sum() ** 2)
